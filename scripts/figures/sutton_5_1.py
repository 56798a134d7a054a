"""Monte Carlo finds the values of a bad policy of blackjack.

Sutton & Barto (2018), Reinforcement learning, figure 5.1 (example 5.1, exercise 5.1): sticking on 20 and 21 only. The
book shows surfaces without numbers; beside them are the exact values, from the model.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gridzero.agents import make as make_agent
from gridzero.agents.tabular.simulation import SimulatedMDP
from gridzero.envs.blackjack import blackjack_state
from gridzero.figures.blackjack_hands import GAME, stick_on_twenty
from gridzero.figures.figure import Figure, Row, claim, panels
from gridzero.figures.repetitions import FloatArray

COUNTS = (10_000, 500_000)
SUMS, DEALERS = range(12, 22), range(1, 11)


def make(seed: int) -> Figure:
    """Estimates after 10,000 and 500,000 episodes, and the exact values; with and without a usable ace."""
    policy = stick_on_twenty()
    exact = surfaces(GAME.policy_values(policy, 1.0))
    agent: Any = make_agent(
        "mc-epsilon-greedy",
        SimulatedMDP(GAME, 100),
        gamma=1.0,
        step_size="1/k",
        epsilon="0",
        episodes_per_update=COUNTS[0],
        seed=seed,
    )
    agent.fix_policy(policy)
    estimates: dict[int, FloatArray] = {}
    for update in agent.learn():
        for count in COUNTS:
            if count not in estimates and update.metrics["episodes_learned"] >= count:
                estimates[count] = surfaces(agent.state_values())
        if len(estimates) == len(COUNTS):
            break
    picture, axes = panels(6, columns=3, width=3.6, height=3.2)
    shown = {f"{count:,} episodes": values for count, values in estimates.items()} | {"exact": exact}
    for column, (title, values) in enumerate(shown.items()):
        for row, ace in enumerate(("usable ace", "no usable ace")):
            panel = axes[3 * row + column]
            image = panel.imshow(values[1 - row], origin="lower", vmin=-1, vmax=1, cmap="RdBu", aspect="auto")
            panel.set_title(f"{title}, {ace}", fontsize=9)
            panel.set_xticks(range(10), ["A", *map(str, range(2, 11))], fontsize=7)
            panel.set_yticks(range(10), [str(total) for total in SUMS], fontsize=7)
            panel.set(xlabel="dealer showing", ylabel="player's sum")
    picture.colorbar(image, ax=axes, shrink=0.7, label="value")
    errors = {
        count: [float(np.sqrt(((values[ace] - exact[ace]) ** 2).mean())) for ace in (1, 0)]
        for count, values in estimates.items()
    }
    few, many = (estimates[count] for count in COUNTS)
    worst = float(np.abs(many - exact).max())
    rows: list[Row] = [
        claim(
            "500,000 episodes: error to the exact values",
            "very well approximated",
            f"{worst:.3f} at the most",
            worst < 0.15,
        ),
        claim(
            "10,000 episodes: RMS error with and without a usable ace",
            "with one less certain",
            "{:.3f} and {:.3f}".format(*errors[COUNTS[0]]),
            errors[COUNTS[0]][0] > errors[COUNTS[0]][1],
        ),
        claim(
            "values of 20 and 21 less those of 19",
            "jump up",
            f"at least {(many[:, 8:] - many[:, 7:8]).min():.2f}",
            bool((many[:, 8:] - many[:, 7:8]).min() > 0.4),
        ),
        claim(
            "20 and 21 against an ace less those against a deuce",
            "drop off",
            f"at most {(many[:, 8:, 0] - many[:, 8:, 1]).max():.2f}",
            bool((many[:, 8:, 0] - many[:, 8:, 1]).max() < 0),
        ),
        claim(
            "values of 12: with a usable ace less without one",
            "higher with one",
            f"at least {(many[1, 0] - many[0, 0]).min():.2f}",
            bool((many[1, 0] > many[0, 0]).all()),
        ),
        claim(
            "error after 500,000 episodes against after 10,000",
            "smaller",
            f"{np.abs(many - exact).mean():.3f} against {np.abs(few - exact).mean():.3f}",
            bool(np.abs(many - exact).mean() < np.abs(few - exact).mean() / 3),
        ),
    ]
    return Figure(picture, rows, "Sutton & Barto, figure 5.1: blackjack, sticking on 20 and 21 only")


def surfaces(values: FloatArray) -> FloatArray:
    """(2, 10, 10) values without and with a usable ace, by the player's sum from 12 and the dealer's card from 1."""
    return np.array(
        [
            [[values[blackjack_state(total, dealer, ace)] for dealer in DEALERS] for total in SUMS]
            for ace in (False, True)
        ]
    )
