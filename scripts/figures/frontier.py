"""Reward over divergence from the reference: what methods of post-training reach, beside the exact frontier.

Sources: Rafailov et al. (2023), Direct preference optimization, eq. 4 and figure 2; Azar et al. (2023), A general
theoretical paradigm to understand learning from human preferences, eq. 7 (IPO); Ouyang et al. (2022), Training language
models to follow instructions with human feedback (PPO with a divergence).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gridzero.figures.figure import Figure, Row, claim, compare, panels, shown
from gridzero.figures.text_world import LIMIT, TextWorld
from gridzero.llm_rl.scoring.enumeration import (
    FloatArray,
    best_of,
    divergence,
    expected,
    ipo_optimum,
    preferred,
    tilted,
    total_variation,
)

BETA, TAU = 1.0, 0.1
BATCH, UPDATES = 384, 400
HELD_OUT = 1_000
RL: dict[str, Any] = {
    "kl_coefficient": BETA,
    "learning_rate": 3.5e-3,
    "learning_rate_schedule": "linear",
    "minibatch_size": 10**6,
    "epochs": 1,
    "schedule_steps": UPDATES * BATCH,
}
GROUPS: dict[str, Any] = {**RL, "groups": 6, "group_size": 64, "episode_limit": LIMIT}
PAIRS: dict[str, Any] = {"beta": BETA, "episode_limit": LIMIT}
FRESH: dict[str, Any] = {
    **PAIRS,
    "labels": "soft",
    "sampling_size": 128,
    "minibatch_size": 128,
    "gradient_steps": 1,
    "learning_rate": 4e-3,
    "schedule_steps": UPDATES * BATCH,  # of two completions each
}
MANY: dict[str, Any] = {
    **PAIRS,
    "pairs": 100_000,
    "labels": "drawn",
    "sampling_size": 4_000,
    "minibatch_size": 2_500,
    "gradient_steps": 20,
    "learning_rate": 5e-3,
    "schedule_steps": 1_200_000,
}
IPO: dict[str, Any] = {
    **PAIRS,
    "loss": "ipo",
    "beta": TAU,
    "labels": "soft",
    "pairs": 30_000,
    "sampling_size": 3_000,
    "minibatch_size": 3_000,
    "learning_rate": 4e-3,
    "schedule_steps": 900_000,
}
FEW: dict[str, Any] = {
    **PAIRS,
    "pairs": 1_000,
    "labels": "drawn",
    "sampling_size": 1_000,
    "minibatch_size": 250,
    "gradient_steps": 4,
    "learning_rate": 5e-3,
    "schedule_steps": 90_000,
}


@dataclass(frozen=True)
class Method:
    """A learner, its settings, and how it is drawn.

    Attributes:
        learner: its name.
        settings: the learner's.
        color: of its way.
        points: of its way that are looked at.
    """

    learner: str
    settings: Mapping[str, Any]
    color: str
    points: int = 10


METHODS = {
    "PPO": Method("ppo", {**RL, "num_envs": BATCH, "rollout_steps": LIMIT, "normalise_advantages": "none"}, "tab:blue"),
    "GRPO": Method("grpo", {**GROUPS, "kl_in_reward": True}, "tab:orange"),
    "RLOO": Method("grpo", {**GROUPS, "variant": "rloo"}, "tab:green"),
    "DPO, fresh pairs": Method("dpo", FRESH, "tab:red"),
    "DPO, 100,000 pairs": Method("dpo", MANY, "tab:purple"),
    "DPO, 1,000 pairs": Method("dpo", FEW, "tab:brown", 90),
    "IPO, 30,000 pairs": Method("dpo", IPO, "tab:gray"),
}


class Way:
    """What is reached on a learner's way.

    Attributes:
        policies: probabilities (3, N) of all completions, at the points of the way.
        kl: divergences from the reference, in nats.
        reward: expected rewards.
        distance: total variation from the optimum.
        gap: of J, the reward less β times the divergence, to the best there is.
    """

    def __init__(self, world: TextWorld, name: str, seed: int) -> None:
        method = METHODS[name]
        agent = world.learner(method.learner, seed=seed, **method.settings)
        self.policies = list(world.path(agent, method.settings["schedule_steps"], method.points))
        optimum = optimum_of(world, name)
        self.kl = [divergence(policy, world.reference) for policy in self.policies]
        self.reward = [expected(policy, world.rewards) for policy in self.policies]
        self.distance = [total_variation(policy, optimum) for policy in self.policies]
        self.gap = [objective(world, optimum) - objective(world, policy) for policy in self.policies]


def optimum_of(world: TextWorld, name: str) -> FloatArray:
    """What a method tends to: π*, or IPO's own optimum."""
    if name.startswith("IPO"):
        return ipo_optimum(world.reference, world.rewards, TAU)
    return tilted(world.reference, world.rewards, BETA)


def objective(world: TextWorld, policy: FloatArray) -> float:
    """J = E r - β KL(π ‖ π_ref)."""
    return expected(policy, world.rewards) - BETA * divergence(policy, world.reference)


def least_gap(world: TextWorld, pairs: int) -> float:
    """Expected gap of J for so many pairs with drawn labels and a reward of its own for each completion.

    With rewards off by ε, the gap is Var ε / 2β in the mean over π*, and no unbiased estimate of them has a smaller
    covariance than the inverse of the Fisher information of Bradley and Terry's model (Cramér and Rao).
    """
    gaps = []
    for reference, preference, optimum in zip(
        world.reference, preferred(world.rewards), tilted(world.reference, world.rewards, BETA), strict=True
    ):
        information = np.outer(reference, reference) * preference * preference.T * 2 * pairs / len(world.reference)
        information = np.diag(information.sum(axis=1)) - information
        spread = np.diag(optimum) - np.outer(optimum, optimum)
        gaps.append(np.trace(spread @ np.linalg.pinv(information)) / (2 * BETA))
    return float(np.mean(gaps))


def stopped_early(world: TextWorld, way: Way, seed: int) -> int:
    """The point of a way that has the least loss on held-out pairs with drawn labels."""
    rng = np.random.default_rng((seed, HELD_OUT))
    prompts = rng.integers(len(world.reference), size=HELD_OUT)
    drawn = [rng.choice(world.reference.shape[1], 2, p=world.reference[p] / world.reference[p].sum()) for p in prompts]
    first, second = np.array(drawn).T
    wins = rng.random(HELD_OUT) < preferred(world.rewards)[prompts, first, second]
    chosen, rejected = np.where(wins, first, second), np.where(wins, second, first)
    losses = []
    for policy in way.policies:
        rewards = BETA * np.log(policy / world.reference)
        losses.append(np.logaddexp(0.0, rewards[prompts, rejected] - rewards[prompts, chosen]).mean())
    return int(np.argmin(losses))


def make(seed: int) -> Figure:
    """Ways over the divergence, and distances from the optimum over the learners' time."""
    world = TextWorld()
    ways = {name: Way(world, name, seed) for name in METHODS}
    few = ways["DPO, 1,000 pairs"]
    early = stopped_early(world, few, seed)
    picture, (left, right) = panels(2, width=5.6, height=4.4)
    _draw_frontier(left, world)
    for name, way in ways.items():
        color = METHODS[name].color
        left.plot([0.0, *way.kl], [expected(world.reference, world.rewards), *way.reward], "-", color=color, lw=0.8)
        left.plot(way.kl[-1], way.reward[-1], "o", color=color, ms=6, label=name)
        start = total_variation(world.reference, optimum_of(world, name))
        right.semilogy(np.linspace(0, 1, len(way.distance) + 1), [start, *way.distance], color=color, lw=1.2)
    left.plot(few.kl[early], few.reward[early], "*", color="tab:brown", ms=12, label="DPO, 1,000 pairs, stopped early")
    right.plot((early + 1) / len(few.distance), few.distance[early], "*", color="tab:brown", ms=12)
    left.set(
        xlabel="KL(π ‖ π_ref) in nats", ylabel="expected reward", title="reward over divergence", xlim=(-0.03, 1.7)
    )
    left.set_ylim(-0.85, 0.85)
    left.legend(fontsize=7, loc="lower right")
    right.set(xlabel="share of training", ylabel="total variation", title="distance from a method's own optimum")
    right.grid(alpha=0.3)
    return Figure(picture, rows(world, ways, early), "The exact frontier of 3 problems: π* ∝ π_ref exp(r/β), β = 1")


def rows(world: TextWorld, ways: Mapping[str, Way], early: int) -> list[Row]:
    """The numbers of the picture."""
    start = total_variation(world.reference, tilted(world.reference, world.rewards, BETA))
    few = ways["DPO, 1,000 pairs"]
    return [
        *(
            compare(f"{name}: total variation from its optimum", 0.0, ways[name].distance[-1], bar)
            for name, bar in (
                ("PPO", 0.01),
                ("GRPO", 0.01),
                ("RLOO", 0.01),
                ("DPO, fresh pairs", 0.02),
                ("IPO, 30,000 pairs", 0.03),
            )
        ),
        compare("DPO, 100,000 pairs: gap of J", 0.0, ways["DPO, 100,000 pairs"].gap[-1], 0.01),
        shown("the same, expected of a table of all completions", f"{least_gap(world, MANY['pairs']):.4f}"),
        claim(
            "DPO, 1,000 pairs: ends further from π* than π_ref is",
            f"more than {start:.3f}",
            f"{few.distance[-1]:.3f}",
            few.distance[-1] > start,
        ),
        claim(
            "the same, stopped at the least loss on held-out pairs: nearer",
            f"less than {start:.3f}",
            f"{few.distance[early]:.3f}",
            few.distance[early] < start,
        ),
    ]


def _draw_frontier(axes: Any, world: TextWorld) -> None:
    """The most reward for each divergence, and what best-of-n has."""
    betas = np.geomspace(0.25, 100, 200)
    frontier = [tilted(world.reference, world.rewards, beta) for beta in betas]
    axes.plot(
        [divergence(policy, world.reference) for policy in frontier],
        [expected(policy, world.rewards) for policy in frontier],
        "k-",
        lw=1.5,
        label="exact frontier",
    )
    best = [best_of(world.reference, world.rewards, n) for n in (2, 3, 4, 6, 8)]
    axes.plot(
        [divergence(policy, world.reference) for policy in best],
        [expected(policy, world.rewards) for policy in best],
        "x",
        color="black",
        ms=5,
        label="best of 2, 3, 4, 6, 8 (exact)",
    )
    optimum = tilted(world.reference, world.rewards, BETA)
    axes.plot(
        divergence(optimum, world.reference), expected(optimum, world.rewards), "D", mfc="none", mec="black", ms=10,
        label="π*",
    )  # fmt: skip
    axes.grid(alpha=0.3)
