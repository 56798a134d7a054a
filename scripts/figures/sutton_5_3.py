"""Weighted importance sampling errs less than ordinary at first: the value of one hand of blackjack, off-policy.

Sutton & Barto (2018), Reinforcement learning, figure 5.3 (example 5.4): sum 13, a usable ace, the dealer shows a deuce;
the policy that acts hits or sticks with equal chances, the values are those of sticking on 20 and 21 only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gridzero.agents import make as make_agent
from gridzero.envs.blackjack import HIT, OBSERVED
from gridzero.figures.blackjack_hands import GAME, HAND, led_to, stick_on_twenty
from gridzero.figures.figure import Figure, Row, claim, compare, panels
from gridzero.figures.repetitions import FloatArray, Repetitions

EPISODES, RUNS = 10_000, 100
KINDS = {"ordinary": "tab:green", "weighted": "tab:red"}
COUNTS = np.unique(np.geomspace(1, EPISODES, 60).astype(int))
VALUE = -0.27726


def make(seed: int) -> Figure:
    """Mean square error over episodes."""
    exact = float(GAME.policy_values(stick_on_twenty(), 1.0)[HAND])
    errors = {kind: ((estimates(kind, seed) - exact) ** 2).mean(axis=0) for kind in KINDS}
    picture, (axes,) = panels(1, width=6.4, height=4.0)
    for kind, color in KINDS.items():
        axes.semilogx(COUNTS, errors[kind], color=color, label=f"{kind} importance sampling")
    axes.set(
        xlabel="episodes",
        ylabel="mean square error",
        ylim=(0, 5),
        title=f"one hand of blackjack, mean of {RUNS} runs",
    )
    axes.legend()
    early = COUNTS <= 100
    first = [float(errors[kind][early].mean()) for kind in KINDS]
    rows: list[Row] = [
        compare("value of the hand, from the model", VALUE, exact, 0.0005),
        claim(
            "mean error up to 100 episodes, ordinary and weighted",
            "much lower for weighted",
            "{:.2f} and {:.2f}".format(*first),
            first[1] < first[0] / 2,
        ),
        claim(
            "ordinary: highest error within 100 episodes",
            "above 1",
            f"{errors['ordinary'][early].max():.2f}",
            bool(errors["ordinary"][early].max() > 1),
        ),
        claim(
            "error after 10,000 episodes, ordinary and weighted",
            "approaches zero for both",
            f"{errors['ordinary'][-1]:.4f} and {errors['weighted'][-1]:.4f}",
            max(errors["ordinary"][-1], errors["weighted"][-1]) < 0.02,
        ),
    ]
    return Figure(picture, rows, "Sutton & Barto, figure 5.3: ordinary and weighted importance sampling")


def estimates(kind: str, seed: int, runs: int = RUNS) -> FloatArray:
    """(R, 60) estimates of the hand's value by each run after so many of its episodes."""
    world, kept = led_to(GAME, HAND)
    states, first = world.num_states, len(kept)
    env = Repetitions(world, runs, EPISODES)
    agent: Any = make_agent(
        "mc-off-policy", env, importance_sampling=kind, gamma=1.0, step_size="1/k", episodes_per_update=1, seed=seed
    )
    target = np.eye(2)[np.append(stick_on_twenty()[kept], HIT)]
    choosing = np.append(kept < OBSERVED, False)  # elsewhere it makes no difference what is done
    behaviour = np.where(choosing[:, None], 0.5, target)
    agent.fix_policy(np.tile(target, (runs, 1)), np.tile(behaviour, (runs, 1)))
    pairs = np.arange(runs) * states + first
    found, place = np.full((runs, len(COUNTS)), np.nan), np.zeros(runs, dtype=np.int64)
    for _ in agent.learn():
        due = np.flatnonzero(env.ended == np.append(COUNTS, -1)[place])
        if due.size:
            found[due, place[due]] = agent._action_values[pairs[due], HIT]
            place[due] += 1
            if place.min() == len(COUNTS):
                break
    return found
