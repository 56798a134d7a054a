"""R1-Zero: reinforcement learning alone, from the base model.

DeepSeek-AI (2025), DeepSeek-R1, section 2.2. Rewards are those of rules: a right answer, a well-formed completion.
"""

from gridzero.recipes.recipe import Recipe, Stage

RECIPE = Recipe(
    about="R1-Zero: GRPO from the base model, with rewards of rules alone",
    task="addition",
    stages=[Stage("grpo", "grpo", 20_480, "rewards: a right answer, and a tenth for the form")],
    source="DeepSeek-AI (2025), DeepSeek-R1, section 2.2",
)
