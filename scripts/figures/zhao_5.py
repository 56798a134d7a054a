"""MC Basic by the length of its episodes, and what exploring costs and finds, on Zhao's 5x5 grid.

Zhao (2025), Mathematical foundations of reinforcement learning, figures 5.4 to 5.8.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import gymnasium as gym
import numpy as np

from gridzero.agents import make as make_agent
from gridzero.envs import FiniteMDP, GridWorld
from gridzero.figures.figure import Figure, FloatArray, Row, add_legend, claim, compare_all, panels, shown
from gridzero.figures.zhao_grid import GAMMA, OPTIMAL, TARGET, draw, epsilon_greedy, model, numbers, policy_of

LENGTHS = {  # of episodes: published state values (figure 5.4)
    1: "0 0 0 0 0 0 0 0 0 0 0 0 1 0 0 0 1 1 1 0 0 0 1 0 0",
    2: "0 0 0 0 0 0 0 0 0 0 0 0 1.9 0 0 0 1.9 1.9 1.9 0 0 0.9 1.9 0.9 0",
    3: "0 0 0 0 0 0 0 0 0 0 0 0 2.7 0 0 0 2.7 2.7 2.7 0 0 1.7 2.7 1.7 0.8",
    4: "0 0 0 0 0 0 0 0 0 0 0 0 3.4 0 0 0 3.4 3.4 3.4 0.7 0 2.4 3.4 2.4 1.5",
    14: "1.2 1.6 2 2.5 3 0.9 1.2 2.5 3 3.6 0.5 0.3 7.7 3.6 4.3 0.3 7.7 7.7 7.7 5 0 6.7 7.7 6.7 5.8",
    15: "1.4 1.8 2.2 2.7 3.3 1.1 1.4 2.7 3.3 3.8 0.8 0.5 7.9 3.8 4.5 0.5 7.9 7.9 7.9 5.2 0.2 6.9 7.9 6.9 6",
    30: "3.1 3.5 3.9 4.4 4.9 2.7 3.1 4.4 4.9 5.5 2.4 2.1 9.6 5.5 6.1 2.1 9.6 9.6 9.6 6.9 1.9 8.6 9.6 8.6 7.7",
    100: OPTIMAL[-10],
}
OPTIMAL_MOVES = "rrrrd uurrd uldrd urold urull"
EPSILONS = {  # published values of the ε-greedy policy of the optimal one (5.6), and of the best ε-greedy policy (5.7)
    0.1: (
        "0.4 0.5 0.9 1.3 1.4 0.1 0 0.5 1.3 1.7 0.1 -0.4 3.4 1.4 1.9 -0.1 3.4 3.3 3.7 2.2 -0.3 2.6 3.7 3.1 2.7",
        "0.4 0.5 0.9 1.3 1.4 0.1 0 0.5 1.3 1.7 0.1 -0.4 3.4 1.4 1.9 -0.1 3.4 3.3 3.7 2.2 -0.3 2.6 3.7 3.1 2.7",
    ),
    0.2: (
        "-2.2 -2.4 -2.1 -1.7 -1.8 -2.5 -3 -3.3 -2.3 -2 -2.3 -3.3 -2.5 -2.8 -2.2 -2.5 -2.5 -2.8 -2 -2.4 "
        "-2.8 -3.2 -2.1 -2.3 -2.2",
        "-1.1 -1.5 -1.1 -0.6 -0.6 -1.5 -2.2 -2.3 -1 -0.6 -1.2 -2.4 -2.2 -1.5 -0.6 -1.6 -2.3 -2.6 -1.4 -1.1 "
        "-2 -3 -1.8 -1.4 -1",
    ),
    0.5: (
        "-8 -9 -8.4 -7.2 -7.8 -8.7 -10.8 -12.4 -9.6 -8.9 -8.3 -12.3 -15.3 -12.3 -10.5 -9.7 -15.5 -17 -14.4 -12.2 "
        "-10.9 -16.7 -15.2 -14.3 -12.4",
        "-4.3 -5.5 -4.5 -2.6 -2.3 -5.6 -7.7 -7.7 -4.1 -2.4 -5.5 -9 -8 -5.6 -2.8 -6.8 -8.9 -9.4 -5.5 -4.2 "
        "-7.9 -10.1 -6.7 -5.1 -3.7",
    ),
}
CORNER, DOWN = 21, 2
"""The forbidden cell of the last row, and the move that bumps into the wall there."""
EPISODE = 300_000


def book_model() -> FiniteMDP:
    """The grid as figures 5.6 and 5.7 have it: bumping into the wall from a forbidden cell pays for both, -11.

    Elsewhere in the book, and in figure 2.7, it pays for the wall alone.
    """
    mdp = model(-10)
    rewards = np.array(mdp.rewards)
    rewards[CORNER, DOWN] = -11
    return dataclasses.replace(mdp, rewards=rewards)


def best_epsilon_greedy(mdp: FiniteMDP, epsilon: float) -> tuple[FloatArray, FloatArray]:
    """State values (S,) and greedy actions (S,) of the best ε-greedy policy, by value iteration among those."""
    values = np.zeros(mdp.num_states)
    while True:
        q = mdp.action_values(values, GAMMA)
        after = (1 - epsilon) * q.max(axis=1) + epsilon * q.mean(axis=1)
        if np.abs(after - values).max() < 1e-10:
            return after, q.argmax(axis=1)
        values = after


def make(seed: int) -> Figure:
    """Values by episode length, by ε, and how often each pair is visited."""
    picture, (lengths, prices, best, visits) = panels(4)
    rows = [*_episode_lengths(lengths, seed), *_prices(prices, best), *_visits(visits, seed), *_two_episodes(seed)]
    return Figure(picture, rows, "Zhao, chapter 5: Monte Carlo methods on the 5x5 grid")


def _episode_lengths(axes: Any, seed: int) -> list[Row]:
    env = GridWorld(layout="zhao-5x5", reward_forbidden=-10)
    rows, means = [], []
    for length, published in LENGTHS.items():
        agent: Any = make_agent("mc-basic", env, gamma=GAMMA, episode_length=length, seed=seed)
        for _ in agent.learn():
            pass
        values = agent.state_values()
        means.append(values.mean())
        rows.append(compare_all(f"5.4: MC Basic, episodes of {length}", numbers(published), values, 0.051))
    published_means = [numbers(text).mean() for text in LENGTHS.values()]
    axes.semilogx([*LENGTHS], published_means, "s", mfc="none", ms=9, color="0.4", label="published")
    axes.semilogx([*LENGTHS], means, ".-", label="mc-basic")
    axes.set(xlabel="steps in an episode", ylabel="mean state value", title="5.4: MC Basic")
    add_legend(axes)
    return rows


def _prices(axes: Any, grid: Any) -> list[Row]:
    mdp, moves = book_model(), policy_of(OPTIMAL_MOVES)
    rows, target = [], TARGET[0] * 5 + TARGET[1]
    for epsilon, (consistent, best) in EPSILONS.items():
        values = mdp.policy_values(epsilon_greedy(moves, epsilon), GAMMA)
        rows.append(compare_all(f"5.6: the optimal policy with ε {epsilon:g}", numbers(consistent), values, 0.051))
        values, actions = best_epsilon_greedy(mdp, epsilon)
        off = np.abs(values - numbers(best))
        rows.append(compare_all(f"5.7: the best with ε {epsilon:g}", numbers(best), values, 0.07))
        if epsilon == 0.2:
            rows.append(shown("5.7, ε 0.2: numbers off by more than rounding", f"{int((off > 0.051).sum())} of 25"))
    leaves = int(actions[target]) != 4
    rows.append(claim("5.7: with ε 0.5 the best leaves the target", "yes", "yes" if leaves else "no", leaves))
    stated = model(-10).policy_values(epsilon_greedy(moves, 0.5), GAMMA)
    off = np.abs(stated - numbers(EPSILONS[0.5][0])).max()
    rows.append(shown("5.6, ε 0.5: furthest off if the wall alone is paid for in cell (5, 2)", f"{off:.2f}"))
    draw(grid, values, np.eye(5)[actions], "5.7d: the best with ε 0.5, its greedy actions")
    steps = np.linspace(0, 0.6, 25)
    axes.plot(
        steps,
        [mdp.policy_values(epsilon_greedy(moves, e), GAMMA).mean() for e in steps],
        label="5.6: the optimal policy with ε",
    )
    axes.plot(steps, [best_epsilon_greedy(mdp, e)[0].mean() for e in steps], label="5.7: the best with ε")
    for k, marker in enumerate("so"):
        printed = [numbers(pair[k]).mean() for pair in EPSILONS.values()]
        axes.plot([*EPSILONS], printed, marker, mfc="none", ms=8, color=f"C{k}", label="published" if k == 0 else None)
    axes.set(xlabel="ε", ylabel="mean state value", title="what exploring costs")
    add_legend(axes)
    return rows


def _visits(axes: Any, seed: int) -> list[Row]:
    """How often each pair is visited in a million steps; here those of 100 worlds together."""
    counts = {}
    worlds = gym.make_vec("gridzero/GridWorld-v0", 100, layout="zhao-5x5", max_episode_steps=None)
    for epsilon in (1.0, 0.5):
        agent: Any = make_agent("td0", worlds, gamma=GAMMA, seed=seed)
        agent.fix_policy(epsilon_greedy(policy_of(OPTIMAL_MOVES), epsilon))
        for update in agent.learn():
            if update.step >= 1_000_000:
                break
        counts[epsilon] = np.sort(agent.memory["visits"].ravel())[::-1]
        axes.semilogy(counts[epsilon], label=f"ε {epsilon:g}")
    axes.set(xlabel="pairs of state and action, the most visited first", ylabel="visits", title="5.8: a million steps")
    add_legend(axes)
    even, uneven = counts[1.0], counts[0.5]
    return [
        claim(
            "5.8d: visits of a pair, ε 1",
            "7,600 to 8,300",
            f"{even.min():,} to {even.max():,}",
            bool(even.min() > 7400 and even.max() < 8600),
        ),
        shown(
            "5.8h: visits, ε 0.5, policy of 5.6d (printed: most above 250,000)", f"{uneven.min()} to {uneven.max():,}"
        ),
    ]


def _two_episodes(seed: int) -> list[Row]:
    """Two iterations of ε-greedy Monte Carlo with one long episode each (figure 5.5)."""
    agent: Any = make_agent(
        "mc-epsilon-greedy",
        GridWorld(layout="zhao-5x5"),
        gamma=GAMMA,
        epsilon="0.5",
        episode_length=EPISODE,
        episodes_per_update=1,
        first_visit=False,
        seed=seed,
    )
    updates = agent.learn()
    next(updates), next(updates)
    best = best_epsilon_greedy(model(-1), 0.5)[0]
    greedy = np.eye(5)[agent.action_values().argmax(axis=1)]
    short = best - model(-1).policy_values(epsilon_greedy(greedy, 0.5), GAMMA)
    return [
        claim(
            "5.5: after two episodes the values fall short of the best with ε 0.5",
            "by nothing",
            f"by {short.mean():.3f}, in one state by {short.max():.2f}",
            bool(short.mean() < 0.05),
        )
    ]
