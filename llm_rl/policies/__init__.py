"""Language models as policies of PPO and GRPO."""
