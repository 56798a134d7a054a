"""The ladder: methods of post-training from one base model, at equally many tokens and at equal CPU seconds.

Each stage has about the budget in which all of them spend what the most expensive one needs to show what it can; the
report reads all at the same cost. The learning rate of each is the best of three or four on another seed.
"""

from gridzero.recipes.recipe import Recipe, Stage

WRITTEN = 20_480
READ = 81_920
MORE = "--policy.model {base} --evaluate-every 0"
FALLING = "--learning-rate-schedule linear"

RECIPE = Recipe(
    about="One base, and what each method of post-training makes of it at equal cost",
    task="addition",
    stages=[
        Stage("base", "sft", 64_000, "three in four demonstrations skip the work"),
        Stage("sft", f"sft {MORE} --learning-rate 1e-3", READ, "more of the same demonstrations"),
        Stage("sft-worked", f"sft {MORE} --env.worked 1 --learning-rate 1e-3", READ, "worked demonstrations alone"),
        Stage("rejection-sampling", f"rejection-sampling {MORE} --learning-rate 1e-3", WRITTEN),
        Stage("grpo", f"grpo {MORE} --learning-rate 3e-4 {FALLING}", WRITTEN),
        Stage("ppo", f"ppo {MORE} --learning-rate 3e-4 {FALLING}", WRITTEN),
        Stage("dpo", f"dpo {MORE} --learning-rate 3e-4", WRITTEN, "pairs that the model writes"),
        Stage(
            "distillation",
            f"distillation {MORE} --teacher {{grpo}} --learning-rate 1e-3",
            WRITTEN,
            "the teacher is the model of GRPO",
        ),
    ],
    base="base",
    compared=["sft", "sft-worked", "rejection-sampling", "grpo", "ppo", "dpo", "distillation"],
    source="the papers of each method; see the learners",
)
