"""Language-model policies and their post-training. Importing this is light; torch and transformers come when used."""

import gymnasium as gym

from gridzero.agents.registry import register, register_policy
from gridzero.envs.tasks import reward

register_policy(
    "gridzero.llm_rl.policies.language_policy:LanguagePolicy",
    lambda observations, actions: isinstance(observations, gym.spaces.Text),
    collector="gridzero.llm_rl.rollouts.collector:ConversationCollector",
)
register_policy(
    "gridzero.llm_rl.policies.vision_language_policy:VisionLanguagePolicy",
    lambda observations, actions: (
        isinstance(observations, gym.spaces.Dict)
        and set(observations.spaces) == {"image", "text"}
        and isinstance(observations["text"], gym.spaces.Text)
        and isinstance(actions, gym.spaces.Text)
    ),
    collector="gridzero.llm_rl.rollouts.collector:ConversationCollector",
)

register(
    "trl-grpo", "gridzero.llm_rl.integrations.trl_engine:TRLGRPO", "GRPO by the trainer of TRL, on single completions"
)
for _name, _entry, _summary in (
    ("sft", "sft:SFT", "supervised fine-tuning on a text task's worked solutions, or on a file"),
    ("reward-model", "reward_model:RewardModel", "a reward learnt from pairs of completions (Bradley-Terry)"),
    ("process-reward-model", "process_reward_model:ProcessRewardModel", "a score of each step of a completion"),
    ("dpo", "dpo:DPO", "direct preference optimisation from pairs of completions; IPO"),
    (
        "rejection-sampling",
        "rejection_sampling:RejectionSampling",
        "a language model imitates its own right completions (expert iteration)",
    ),
    ("distillation", "distillation:Distillation", "a language model learns from another, on or off policy"),
):
    register(_name, f"gridzero.llm_rl.learners.{_entry}", _summary)

reward.register_resolver("gridzero.llm_rl.learners.run_rewards:reward_of_run")
