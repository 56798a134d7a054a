"""R1: a cold start, reinforcement learning, rejection sampling, both once more, and distillation to a small student.

DeepSeek-AI (2025), DeepSeek-R1, sections 2.3 and 2.4. R1-Zero stands beside, from the same base and with as many
completions as the two stages of reinforcement learning together: where one demonstration in fifty is worked out, a base
hardly ever thinks, and has nothing that rewards could make usual. Left out: what no verifier judges (writing,
helpfulness), and so the preference rewards of the last stage; instead of a language, the reward for consistency looks
at whether the equations of a thought are true, where it has any.
"""

from gridzero.recipes.recipe import Recipe, Stage

IMITATED = "--learning-rate 3e-3 --groups 512 --group-size 1 --minibatch-size 32 --gradient-steps 16"
REINFORCED = "--learning-rate 1e-4 --learning-rate-schedule linear --env.rewards correct,form=0.1,consistency=0.1"

RECIPE = Recipe(
    about="R1: cold start, GRPO, rejection sampling, SFT, GRPO again, and distillation beside GRPO on a small student",
    task="grid-path",
    options={"worked": "0.02"},
    stages=[
        Stage("base", "sft", 64_000, "a base model that guesses"),
        Stage("r1-zero", f"grpo --policy.model {{base}} {REINFORCED}", 20_480, "reinforcement learning alone, beside"),
        Stage(
            "cold-start",
            "sft --policy.model {base} --env.worked 1 --learning-rate 3e-3",
            12_800,
            "a few worked solutions",
        ),
        Stage("grpo", f"grpo --policy.model {{cold-start}} {REINFORCED}", 10_240, "reasoning"),
        Stage(
            "rejection-sampling",
            f"distillation --policy.model {{base}} --teacher {{grpo}} {IMITATED}",
            10_240,
            "the base imitates right completions of the model before",
        ),
        Stage("grpo-again", f"grpo --policy.model {{rejection-sampling}} {REINFORCED}", 10_240),
        Stage("student", "sft --env.worked 0.25 --width 32 --layers 2 --minibatch-size 32", 96_000, "a smaller base"),
        Stage(
            "distillation",
            f"distillation --policy.model {{student}} --teacher {{grpo-again}} {IMITATED}",
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
    compared=["distillation", "student-grpo"],
    source="DeepSeek-AI (2025), DeepSeek-R1, sections 2.3 and 2.4",
)
