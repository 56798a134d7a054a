"""R1: a cold start, reinforcement learning, rejection sampling, both once more, and distillation to a small student.

DeepSeek-AI (2025), DeepSeek-R1, sections 2.3 and 2.4. Left out: what no verifier judges (writing, helpfulness), and so
the preference rewards of the last stage; instead of a language, the reward for consistency looks at whether the thought
arrives at the answer.
"""

from gridzero.recipes.recipe import Recipe, Stage

REINFORCED = "--learning-rate 3e-4 --learning-rate-schedule linear --env.rewards correct,form=0.1,consistency=0.1"

RECIPE = Recipe(
    about="R1: cold start, GRPO, rejection sampling, SFT, GRPO again, and distillation beside GRPO on a small student",
    task="addition",
    options={"worked": "0.25"},
    stages=[
        Stage("base", "sft", 64_000, "a base model that mostly guesses"),
        Stage(
            "cold-start",
            "sft --policy.model {base} --env.worked 1 --learning-rate 1e-3",
            3_200,
            "a few worked solutions",
        ),
        Stage("grpo", f"grpo --policy.model {{cold-start}} {REINFORCED}", 10_240, "reasoning"),
        Stage(
            "rejection-sampling",
            "distillation --policy.model {base} --teacher {grpo} --learning-rate 1e-3",
            10_240,
            "the base imitates right completions of the model before",
        ),
        Stage("grpo-again", f"grpo --policy.model {{rejection-sampling}} {REINFORCED}", 10_240),
        Stage("student", "sft --width 32 --layers 2", 64_000, "a smaller base model"),
        Stage(
            "distillation",
            "distillation --policy.model {student} --teacher {grpo-again} --learning-rate 1e-3",
            20_480,
            "the student imitates the teacher's right completions",
        ),
        Stage(
            "student-grpo",
            f"grpo --policy.model {{student}} {REINFORCED}",
            20_480,
            "the student learns alone, beside",
        ),
    ],
    base="base",
    source="DeepSeek-AI (2025), DeepSeek-R1, sections 2.3 and 2.4",
)
