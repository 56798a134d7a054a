"""How many simulations tree search needs for the optimal action, on the lake, in the rooms and in mazes.

The bounds of the search are UCT's (Kocsis & Szepesvári, 2006); values are backed up as maxima (Keller & Helmert, 2013),
or as means of returns, as UCT was published. A gap of 0 is drawn at 10⁻⁶.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from gridzero.agents.search.mcts import MCTS, MCTSConfig
from gridzero.agents.tabular.solver import solve
from gridzero.envs import FiniteMDP, GridWorld
from gridzero.figures.figure import Figure, Row, claim, panels, shown

GAMMA = 0.99
BUDGETS = (30, 100, 300, 1000, 3000, 10_000)
EVERY = 4
"""One in so many states is searched from, in the larger worlds."""
BAR = 0.95


def make(seed: int) -> Figure:
    """The gap and the share of optimal actions over simulations; states are searched from one by one."""
    picture, (gaps, shares) = panels(2, height=3.9)
    rows: list[Row] = []
    for color, (name, (mdp, every)) in enumerate(worlds().items()):
        q = mdp.action_values(solve(mdp, GAMMA, tolerance=1e-12).values, GAMMA)
        states = np.flatnonzero(~mdp.terminal & (np.ptp(q, axis=1) > 1e-9))[::every]
        for backup, style in (("max", "-"), ("mean", "--")):
            budgets = BUDGETS if backup == "max" else BUDGETS[:-1]
            found = np.array([score(mdp, q, states, count, backup, seed) for count in budgets])
            label = name if backup == "max" else None
            look: dict[str, Any] = {"color": f"C{color}", "ls": style, "marker": "o", "ms": 3, "label": label}
            gaps.plot(budgets, np.maximum(found[:, 0], 1e-6), **look)
            shares.plot(budgets, found[:, 1], **look)
            if backup == "mean":
                rows.append(shown(f"{name}, means, {budgets[-1]:,} simulations", f"{found[-1, 1]:.3f} optimal"))
                continue
            share = found[-1, 1]
            text = f"{share:.3f} of {len(states)} states, gap {found[-1, 0]:.2g}"
            rows.append(
                claim(f"{name}, optimal actions at {budgets[-1]:,} simulations", f"≥ {BAR}", text, bool(share >= BAR))
            )
    gaps.set_ylabel("gap of the action taken to the optimum (none: 10⁻⁶)")
    gaps.set_yscale("log")
    shares.set_ylabel("share of optimal actions")
    shares.set_ylim(0, 1.03)
    shares.axhline(BAR, color="0.6", lw=0.8, ls=":")
    for axes in (gaps, shares):
        axes.set_xscale("log")
        axes.set_xlabel("simulations before each action")
        axes.grid(color="0.92")
    gaps.set_title("solid: maxima backed up; dashed: means", fontsize=9)
    shares.legend(frameon=False, fontsize=8, loc="lower right")
    return Figure(picture, rows, "Monte Carlo tree search held against the exact optimum, γ 0.99")


def worlds() -> dict[str, tuple[FiniteMDP, int]]:
    """The models, and which share of their states is searched from."""
    return {
        "FrozenLake, slippery": (FiniteMDP.from_env(gym.make("FrozenLake-v1")), 1),
        "four rooms, slippery": (GridWorld("four-rooms").mdp, EVERY),
        "maze 9×9": (GridWorld("maze:9x9:0").mdp, EVERY),
        "maze 15×15": (GridWorld("maze:15x15:0").mdp, EVERY),
    }


def score(
    mdp: FiniteMDP, q: np.ndarray, states: np.ndarray, simulations: int, backup: str, seed: int
) -> tuple[float, float]:
    """Mean gap of the actions that are taken, and the share of optimal ones."""
    config = MCTSConfig(gamma=GAMMA, simulations=simulations, depth=1000, backup=backup)  # type: ignore[arg-type]
    chosen = q[states, MCTS(mdp, config, seed=seed).act(states)]
    lost = q[states].max(axis=1) - chosen
    return float(lost.mean()), float((lost <= 1e-9).mean())
