"""A reward model from few pairs is a proxy: optimised ever further, it goes on rising while the true reward falls.

Source: Gao, Schulman and Hilton (2023), Scaling laws for reward model overoptimization, figure 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Any

import numpy as np

from gridzero.envs.tasks.task import Problem
from gridzero.figures.figure import Figure, Row, add_legend, claim, panels, shown
from gridzero.figures.text_world import LIMIT, TextWorld, taste
from gridzero.llm_rl.scoring.enumeration import FloatArray, best_of, divergence, expected, tilted

MODELS, PAIRS, POINTS = 12, 200, 20
QUESTIONS = tuple(a + b for a, b in zip(ascii_lowercase[:24:2], ascii_lowercase[1:24:2], strict=True))
TEMPERATURE = 0.45
"""Below 1, so that the reference seldom writes what the reward models will like best, and few pairs are about it."""
REWARD = f"{__name__}:moderation"
REWARD_MODEL: dict[str, Any] = {
    "pairs": PAIRS,
    "labels": "drawn",
    "sampling_size": PAIRS,
    "minibatch_size": 50,
    "gradient_steps": 4,
    "learning_rate": 3e-3,
    "schedule_steps": 1_500,
    "episode_limit": LIMIT,
}
UPDATES = 60
GRPO: dict[str, Any] = {
    "groups": len(QUESTIONS),
    "group_size": 32,
    "episode_limit": LIMIT,
    "learning_rate": 3e-3,
    "learning_rate_schedule": "constant",
    "minibatch_size": 10**6,
}
DRAWS = 2 ** np.arange(17)
BETAS = np.geomspace(20, 1e-4, 80)


def moderation(problem: Problem, completions: Sequence[str]) -> list[float]:
    """A true reward that wants more of what is to its taste, but not too much of it: s - 3s²/2.

    Chosen because it shows the fall: of a reward that only adds up, reward models extrapolate well.
    """
    return [s - 1.5 * s * s for s in taste(problem, completions)]


@dataclass(frozen=True)
class Way:
    """Expectations on a way of optimising a proxy, (points,) each.

    Attributes:
        kl: divergence from the reference, in nats.
        gold: the true reward.
        proxy: that of the reward model.
    """

    kl: FloatArray
    gold: FloatArray
    proxy: FloatArray

    @property
    def fall(self) -> float:
        """How much of the gain in true reward at its peak is lost at the end."""
        return float(1 - self.gold[-1] / self.gold.max())


def make(seed: int) -> Figure:
    """Proxy and true reward over the divergence, the mean over reward models.

    The way of reinforcement learning is the exact one, π ∝ π_ref exp(proxy/β) for ever smaller β; GRPO's own, which
    need not come to the proxy's very best completion, is beside it.
    """
    world = TextWorld(QUESTIONS, temperature=TEMPERATURE)
    gold = _centred(world, world.judged(moderation))
    learned, optimal, drawn = [], [], []
    for number in np.random.SeedSequence(seed).generate_state(MODELS).tolist():
        model = world.learner("reward-model", rewards=REWARD, seed=number, **REWARD_MODEL)
        for _ in model.learn():
            pass
        proxy = _centred(world, world.judged(model))
        steps = UPDATES * GRPO["groups"] * GRPO["group_size"]
        agent = world.learner("grpo", rewards={model: 1.0}, seed=number, **GRPO)
        learned.append(_way(world, gold, proxy, [world.reference, *world.path(agent, steps, POINTS)]))
        optimal.append(_way(world, gold, proxy, [tilted(world.reference, proxy, float(beta)) for beta in BETAS]))
        drawn.append(_way(world, gold, proxy, [best_of(world.reference, proxy, int(n)) for n in DRAWS]))
    ways = {"RL": (optimal, _mean(optimal)), "best-of-n": (drawn, _mean(drawn))}
    grpo = _mean(learned)
    picture, axes = panels(2, width=5.0, height=3.8)
    for panel, (name, (each, way)) in zip(axes, ways.items(), strict=True):
        for one in each:
            panel.plot(_root(one), one.gold, color="tab:green", lw=0.5, alpha=0.4)
        panel.plot(_root(way), way.proxy, "--", color="tab:orange", label="reward model (proxy)")
        panel.plot(_root(way), way.gold, "-", color="tab:green", lw=2, label="true reward (gold)")
        if name == "RL":
            panel.plot(_root(grpo), grpo.gold, ":", color="tab:blue", label="true reward, GRPO")
        panel.set(xlabel="√KL(π ‖ π_ref)", ylabel="expected reward", title=f"{name}, {MODELS} reward models")
        add_legend(panel, fontsize=8)
    rows: list[Row] = []
    for name, (_, way) in ways.items():
        peak = int(way.gold.argmax())
        rows += [
            claim(
                f"{name}: the true reward falls from its peak", "by 15 % or more", f"{way.fall:.0%}", way.fall >= 0.15
            ),
            claim(
                f"{name}: the proxy rises all the same",
                "yes",
                f"{way.proxy[peak]:.3f} to {way.proxy[-1]:.3f}",
                bool(way.proxy[-1] > way.proxy[peak]),
            ),
            shown(f"{name}: the peak", f"{way.gold[peak]:.2f} at a divergence of {way.kl[peak]:.1f} nats"),
        ]
    rows.append(shown("GRPO: true reward at its peak and at the end", f"{grpo.gold.max():.2f}, {grpo.gold[-1]:.2f}"))
    return Figure(picture, rows, f"Gao et al. (2023), figure 1: reward models from {PAIRS} pairs, optimised")


def _root(way: Way) -> FloatArray:
    """√KL, over which the pictures are drawn."""
    return np.sqrt(np.maximum(way.kl, 0))


def _centred(world: TextWorld, rewards: FloatArray) -> FloatArray:
    """Rewards less what the reference has in the mean."""
    return np.asarray(rewards - (world.reference * rewards).sum(axis=1, keepdims=True))


def _way(world: TextWorld, gold: FloatArray, proxy: FloatArray, policies: Sequence[FloatArray]) -> Way:
    kl = [divergence(policy, world.reference) for policy in policies]
    return Way(
        np.array(kl),
        np.array([expected(policy, gold) for policy in policies]),
        np.array([expected(policy, proxy) for policy in policies]),
    )


def _mean(ways: Sequence[Way]) -> Way:
    return Way(*(np.mean([getattr(way, name) for way in ways], axis=0) for name in ("kl", "gold", "proxy")))
