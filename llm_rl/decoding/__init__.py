"""The rollout engine: completions of prompts, with the log-probabilities of what was drawn."""
