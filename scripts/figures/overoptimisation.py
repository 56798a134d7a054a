"""A reward model from few pairs is a proxy: optimised ever further, it goes on rising while the true reward falls.

Source: Gao, Schulman and Hilton (2023), Scaling laws for reward model overoptimization, figure 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from string import ascii_lowercase
from typing import Any

import numpy as np

from gridzero.envs.tasks.task import Problem
from gridzero.figures.figure import Figure, Row, add_legend, claim, panels, shown
from gridzero.figures.text_world import LIMIT, TextWorld, taste
from gridzero.llm_rl.scoring.enumeration import FloatArray, best_of, divergence, expected, tilted

MODELS, PAIRS = 12, 200
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
PENALTIES = {0.3: 10, 0.1: 10, 0.05: 20, 0.02: 20, 0.01: 30, 0.003: 40, 0.001: 40}
"""β of GRPO, one after the other, and its updates with each. Without a penalty at first it leaves the frontier at once;
hurried to the smallest, it stops short of the proxy's best."""
GRPO: dict[str, Any] = {
    "groups": len(QUESTIONS),
    "group_size": 64,
    "episode_limit": LIMIT,
    "learning_rate": 3e-3,
    "learning_rate_schedule": "constant",
    "minibatch_size": 10**6,
    "kl_coefficient": max(PENALTIES),
    "kl_in_reward": True,
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

    The way of reinforcement learning is the exact one, π ∝ π_ref exp(proxy/β) for ever smaller β; that of GRPO, whose
    penalty falls as it learns, is beside it.
    """
    world = TextWorld(QUESTIONS, temperature=TEMPERATURE)
    return drawn([optimised(world, number) for number in np.random.SeedSequence(seed).generate_state(MODELS).tolist()])


def optimised(world: TextWorld, seed: int) -> dict[str, Way]:
    """The ways of reinforcement learning, of GRPO and of best-of-n with one reward model."""
    model = world.learner("reward-model", rewards=REWARD, seed=seed, **REWARD_MODEL)
    for _ in model.learn():
        pass
    gold, proxy = (_centred(world, world.judged(judge)) for judge in (moderation, model))
    policies = {
        "RL": [tilted(world.reference, proxy, float(beta)) for beta in BETAS],
        "GRPO": [world.reference, *_trained(world, model, seed)],
        "best-of-n": [best_of(world.reference, proxy, int(n)) for n in DRAWS],
    }
    return {name: _way(world, gold, proxy, own) for name, own in policies.items()}


def drawn(found: Sequence[Mapping[str, Way]]) -> Figure:
    """The figure of the ways that were found with each reward model."""
    ways = {name: [each[name] for each in found] for name in found[0]}
    means = {name: _mean(each) for name, each in ways.items()}
    titles = {"RL": "exact optima of RL", "GRPO": "GRPO, its penalty falling", "best-of-n": "best-of-n"}
    picture, axes = panels(3, columns=3, width=3.9, height=3.8)
    for panel, (name, way) in zip(axes, means.items(), strict=True):
        for one in ways[name]:
            panel.plot(_root(one), one.gold, color="tab:green", lw=0.5, alpha=0.4)
        mark = "o" if name == "GRPO" else ""
        panel.plot(_root(way), way.proxy, f"{mark}--", color="tab:orange", ms=4, label="reward model (proxy)")
        panel.plot(_root(way), way.gold, f"{mark}-", color="tab:green", lw=2, ms=4, label="true reward (gold)")
        if name == "GRPO":
            panel.plot(_root(means["RL"]), means["RL"].gold, ":", color="gray", label="true reward, exact optima")
        panel.set(xlabel="√KL(π ‖ π_ref)", ylabel="expected reward", title=titles[name])
        panel.set_ylim(-1, 1.5)
        add_legend(panel, fontsize=8)
    rows: list[Row] = []
    for name, way in means.items():
        peak = int(way.gold.argmax())
        fall, rise = way.fall, f"{way.proxy[peak]:.3f} to {way.proxy[-1]:.3f}"
        rows += [
            claim(f"{name}: the true reward falls from its peak", "by 15 % or more", f"{fall:.0%}", fall >= 0.15),
            claim(f"{name}: the proxy rises all the same", "yes", rise, bool(way.proxy[-1] > way.proxy[peak])),
            shown(f"{name}: the peak", f"{way.gold[peak]:.2f} at a divergence of {way.kl[peak]:.1f} nats"),
        ]
    return Figure(
        picture, rows, f"Gao et al. (2023), figure 1: {len(found)} reward models from {PAIRS} pairs, optimised"
    )


def _trained(world: TextWorld, model: Any, seed: int) -> Iterator[FloatArray]:
    """Probabilities under a policy that GRPO trains on a reward model, at the end of each penalty."""
    agent = world.learner("grpo", rewards={model: 1.0}, seed=seed, **GRPO)
    learning = agent.learn()
    for beta, updates in PENALTIES.items():
        agent.config = replace(agent.config, kl_coefficient=beta)
        for _ in range(updates):
            next(learning)
        yield world.completions.probabilities(agent.network)


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
