"""The ladder: methods of post-training from one base model, at equal tokens and at equal CPU seconds.

Each stage has about the budget that the report needs to read all of them at the same cost. Its learning rate is the
best of two or three on another seed, and so are PPO's single epoch and the 512 different problems of expert iteration.
"""

from gridzero.recipes.recipe import Recipe, Stage

WRITTEN = 10_240
MORE = "--policy.model {base} --evaluate-every 0"
FALLING = "--learning-rate-schedule linear"
DIVERSE = "--groups 512 --group-size 1 --minibatch-size 32 --gradient-steps 8"

RECIPE = Recipe(
    about="One base, and what each method of post-training makes of it at equal cost",
    task="addition",
    stages=[
        Stage("base", "sft --evaluate-every 0", 64_000, "three in four demonstrations skip the work"),
        Stage("sft", f"sft {MORE} --learning-rate 1e-3", 23_040, "more of the same demonstrations"),
        Stage("sft-worked", f"sft {MORE} --env.worked 1 --learning-rate 1e-3", 13_312, "worked demonstrations alone"),
        Stage(
            "rejection-sampling",
            f"rejection-sampling {MORE} --learning-rate 3e-4 {DIVERSE}",
            WRITTEN,
            "expert iteration: it imitates those of its completions that are right",
        ),
        Stage("grpo", f"grpo {MORE} --learning-rate 1e-4 {FALLING}", WRITTEN),
        Stage("ppo", f"ppo {MORE} --learning-rate 1e-4 {FALLING} --epochs 1", WRITTEN),
        Stage("dpo", f"dpo {MORE} --learning-rate 1e-4", WRITTEN, "pairs that the model writes"),
        Stage(
            "distillation",
            f"distillation {MORE} --teacher {{grpo}} --learning-rate 3e-4 {DIVERSE}",
            WRITTEN,
            "the teacher is the model of GRPO",
        ),
    ],
    base="base",
    compared=["sft", "sft-worked", "rejection-sampling", "grpo", "ppo", "dpo", "distillation"],
    source="the papers of each method; see the learners",
)
