"""RLHF in three stages, and DPO beside the last two.

Ouyang et al. (2022), Training language models to follow instructions with human feedback, section 3; Rafailov et al.
(2023), Direct preference optimization. The labels of preferences are the task's verifier's, in place of people's.
"""

from gridzero.recipes.recipe import Recipe, Stage

MORE = "--policy.model {sft} --evaluate-every 0"

RECIPE = Recipe(
    about="RLHF: SFT, a reward model, PPO; and DPO beside the last two",
    task="addition",
    stages=[
        Stage("sft", "sft --evaluate-every 0", 64_000, "demonstrations, of which three in four skip the work"),
        Stage("reward-model", f"reward-model {MORE} --learning-rate 1e-3", 10_240, "from preferences"),
        Stage(
            "ppo",
            f"ppo {MORE} --learning-rate 1e-4 --learning-rate-schedule linear --epochs 1 --kl-coefficient 0.05 "
            "--env.rewards {reward-model}=1",
            10_240,
            "the reward model pays",
        ),
        Stage("dpo", f"dpo {MORE} --learning-rate 1e-4", 10_240, "the same preferences, without a model"),
    ],
    base="sft",
    compared=["ppo", "dpo"],
    source="Ouyang et al. (2022), section 3; Rafailov et al. (2023)",
)
