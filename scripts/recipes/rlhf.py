"""RLHF in three stages, and DPO beside the last two.

Ouyang et al. (2022), Training language models to follow instructions with human feedback, section 3; Rafailov et al.
(2023), Direct preference optimization. The labels of preferences are the task's verifier's, in place of people's.
"""

from gridzero.recipes.recipe import Recipe, Stage

RECIPE = Recipe(
    about="RLHF: SFT, a reward model, PPO; and DPO beside the last two",
    task="addition",
    stages=[
        Stage("sft", "sft", 64_000, "demonstrations, of which three in four skip the work"),
        Stage("reward-model", "reward-model --policy.model {sft} --learning-rate 1e-3", 10_000, "from preferences"),
        Stage(
            "ppo",
            "ppo --policy.model {sft} --learning-rate 3e-4 --learning-rate-schedule linear "
            "--env.rewards {reward-model}=1",
            40_960,
            "the reward model pays",
        ),
        Stage("dpo", "dpo --policy.model {sft} --learning-rate 3e-4", 10_000, "the same preferences, without a model"),
    ],
    base="sft",
    source="Ouyang et al. (2022), section 3; Rafailov et al. (2023)",
)
