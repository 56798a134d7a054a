"""Language-model policies and their post-training. Importing this is light; torch and transformers come when used."""

from gridzero.agents.registry import register_policy

register_policy("Text", "gridzero.llm_rl.policies.language_policy:LanguagePolicy")
