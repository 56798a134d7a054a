"""The ladder: methods of post-training from one base model, at about equally many tokens written.

Each stage has the budget in which it writes, or reads, as many completions as the others.
"""

from gridzero.recipes.recipe import Recipe, Stage

COMPLETIONS = 10_240

RECIPE = Recipe(
    about="One base, and what each method of post-training makes of it at equally many completions",
    task="addition",
    stages=[
        Stage("base", "sft", 64_000, "three in four demonstrations skip the work"),
        Stage("sft", "sft --policy.model {base} --learning-rate 1e-3", COMPLETIONS, "more of the same demonstrations"),
        Stage("rejection-sampling", "rejection-sampling --policy.model {base} --learning-rate 1e-3", COMPLETIONS),
        Stage("grpo", "grpo --policy.model {base} --learning-rate 3e-4 --learning-rate-schedule linear", COMPLETIONS),
        Stage("ppo", "ppo --policy.model {base} --learning-rate 3e-4 --learning-rate-schedule linear", COMPLETIONS),
        Stage("dpo", "dpo --policy.model {base} --learning-rate 3e-4", COMPLETIONS),
        Stage(
            "distillation",
            "distillation --policy.model {base} --teacher {grpo} --learning-rate 1e-3",
            COMPLETIONS,
            "the teacher is the model of GRPO",
        ),
    ],
    base="base",
    source="the papers of each method; see the learners",
)
