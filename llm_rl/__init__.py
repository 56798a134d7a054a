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

_EXAMPLE = "--env gridzero/TextGeneration-v0 --env.task addition --run sums"
register(
    "trl-grpo",
    "gridzero.llm_rl.integrations.trl_engine:TRLGRPO",
    "GRPO by the trainer of TRL, on single completions",
    config="gridzero.agents.neural.configs.grpo:GRPOConfig",
    example=_EXAMPLE,
)
for _module, _class, _config, _summary in (
    ("sft", "SFT", "SFTConfig", "supervised fine-tuning on a text task's worked solutions, or on a file"),
    (
        "reward_model",
        "RewardModel",
        "RewardModelConfig",
        "a reward learnt from pairs of completions (Bradley-Terry)",
    ),
    ("process_reward_model", "ProcessRewardModel", "ProcessRewardModelConfig", "a score of each step of a completion"),
    ("dpo", "DPO", "DPOConfig", "direct preference optimisation from pairs of completions; IPO"),
    (
        "rejection_sampling",
        "RejectionSampling",
        "SamplingConfig",
        "a language model imitates its own right completions (expert iteration)",
    ),
    ("distillation", "Distillation", "DistillationConfig", "a language model learns from another, on or off policy"),
):
    register(
        _module.replace("_", "-"),
        f"gridzero.llm_rl.learners.{_module}:{_class}",
        _summary,
        config=f"gridzero.llm_rl.learners.configs.{_module}:{_config}",
        example=_EXAMPLE,
    )

reward.register_resolver("gridzero.llm_rl.learners.run_rewards:reward_of_run")
