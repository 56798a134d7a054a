"""Language-model policies and their post-training. Importing this is light; torch and transformers come when used."""

from gridzero.agents.registry import register, register_policy

register_policy("Text", "gridzero.llm_rl.policies.language_policy:LanguagePolicy")

register(
    "trl-grpo", "gridzero.llm_rl.integrations.trl_engine:TRLGRPO", "GRPO by the trainer of TRL, on single completions"
)
register("sft", "gridzero.llm_rl.learners.sft:SFT", "supervised fine-tuning on a text task's worked solutions")
