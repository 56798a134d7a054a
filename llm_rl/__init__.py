"""Language-model policies and their post-training. Importing this is light; torch and transformers come when used."""

import gymnasium as gym

from gridzero.agents.registry import register, register_policy

register_policy(
    "gridzero.llm_rl.policies.language_policy:LanguagePolicy",
    lambda observations, actions: isinstance(observations, gym.spaces.Text),
    collector="gridzero.llm_rl.rollouts.collector:ConversationCollector",
)

register(
    "trl-grpo", "gridzero.llm_rl.integrations.trl_engine:TRLGRPO", "GRPO by the trainer of TRL, on single completions"
)
register("sft", "gridzero.llm_rl.learners.sft:SFT", "supervised fine-tuning on a text task's worked solutions")
