"""Dividing by a completion's length makes wrong answers longer, and dividing by the deviation favours easy and hard.

Liu et al. (2025), Understanding R1-Zero-like training (Dr. GRPO), section 3 and figure 5: here both biases are computed
exactly, from the very functions with which GRPO learns.
"""

from __future__ import annotations

from typing import get_args

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from gridzero.agents.neural.choices import Baseline, Normalisation
from gridzero.agents.neural.objectives import group_advantages, step_weights
from gridzero.figures.figure import Figure, FloatArray, Row, add_legend, claim, compare, panels

LONGEST = 400
"""Tokens; a completion that ends with probability 0.1 at each is practically never longer."""
STOP = 0.1
ADVANTAGES = {"right": 0.5, "wrong": -0.5}
STEPS, RATE = 400, 0.05
GROUP = 16
BASELINES: tuple[Baseline, ...] = ("standardised", "centred", "leave-one-out")

MASK = torch.arange(LONGEST) < torch.arange(1, LONGEST + 1)[:, None]
"""Completions of 1, 2, … tokens."""


def drift(logit: Tensor, advantage: float, normalisation: Normalisation) -> Tensor:
    """The expected gradient of the logit of ending in GRPO's objective, over the mean weight of a completion.

    Whether the answer is right is decided already, so how long it becomes has nothing to win or to lose.
    """
    logit = logit.detach().requires_grad_()
    stop = torch.sigmoid(logit)
    lengths = torch.arange(1, LONGEST + 1, dtype=torch.float64)
    going_on = torch.log1p(-stop).expand(LONGEST, LONGEST)
    last = torch.eye(LONGEST, dtype=torch.bool)
    log_probs = torch.where(last, stop.log(), going_on)
    probabilities = (stop * (1 - stop) ** (lengths - 1)).detach()
    weights = step_weights(MASK, normalisation, length=LONGEST, dtype=torch.float64) * probabilities[:, None]
    objective = (advantage * weights * log_probs).sum() / weights.sum()
    (gradient,) = torch.autograd.grad(objective, logit)
    return gradient


def mean_lengths(advantage: float, normalisation: Normalisation) -> FloatArray:
    """Mean lengths along the way that the expected gradient leads."""
    logit = torch.tensor(STOP, dtype=torch.float64).logit()
    found = []
    for _ in range(STEPS):
        found.append(1 / float(torch.sigmoid(logit)))
        logit = logit + RATE * drift(logit, advantage, normalisation)
    return np.array(found)


def pull(accuracy: float, baseline: Baseline) -> float:
    """The expected gradient with respect to the logit of a right answer, of a group of 16, exactly."""
    total = 0.0
    for right in range(GROUP + 1):
        rewards = torch.tensor([1.0] * right + [0.0] * (GROUP - right), dtype=torch.float64)
        gradient = float((group_advantages(rewards, baseline) * (rewards - accuracy)).mean())
        total += float(stats.binom.pmf(right, GROUP, accuracy)) * gradient
    return total


def make(seed: int) -> Figure:
    """Lengths by normalisation, and the pull of a question by its difficulty; nothing in them is random."""
    del seed
    picture, (lengths, pulls) = panels(2)
    ends: dict[tuple[str, str], float] = {}
    for color, normalisation in enumerate(get_args(Normalisation)):
        for outcome, style in (("wrong", "-"), ("right", "--")):
            path = mean_lengths(ADVANTAGES[outcome], normalisation)
            ends[normalisation, outcome] = float(path[-1])
            width = 4 - 1.2 * color  # two of them coincide
            lengths.plot(path, style, color=f"C{color}", lw=width, label=f"{normalisation}, {outcome}")
    lengths.set(xlabel="steps along the expected gradient", ylabel="mean tokens", title="length of answers")
    accuracies = np.linspace(0.02, 0.98, 49)
    for baseline in BASELINES:
        pulls.plot(accuracies, [pull(p, baseline) / (p * (1 - p)) for p in accuracies], label=baseline)
    pulls.set(xlabel="share of right answers to a question", ylabel="gradient over that of the mean reward")
    pulls.set(title=f"weight of a question, groups of {GROUP}")
    for axes in (lengths, pulls):
        add_legend(axes, fontsize=8)
    return Figure(picture, _rows(ends), "Liu et al. (2025), Dr. GRPO: the biases of GRPO, exactly")


def _rows(ends: dict[tuple[str, str], float]) -> list[Row]:
    logit = torch.tensor(STOP, dtype=torch.float64).logit()
    # Where L ends with probability q at each token, E[(1 - L q) / L] = E[1 / L] - q.
    inverse = -STOP * np.log(STOP) / (1 - STOP)
    exact = -0.5 * (inverse - STOP)
    begin = 1 / STOP
    rows = [
        compare("by sequence: drift of a wrong answer's end", exact, float(drift(logit, -0.5, "sequence")), 1e-4),
        *(
            compare(f"by {name}: drift of a wrong answer's end", 0.0, float(drift(logit, -0.5, name)), 1e-9)
            for name in ("token", "constant")
        ),
        claim(
            "by sequence: tokens of wrong answers",
            "grow",
            f"{begin:.0f} to {ends['sequence', 'wrong']:.1f}",
            ends["sequence", "wrong"] > 1.2 * begin,
        ),
        claim(
            "by sequence: tokens of right answers",
            "shrink",
            f"{begin:.0f} to {ends['sequence', 'right']:.1f}",
            ends["sequence", "right"] < 0.8 * begin,
        ),
    ]
    weights: dict[Baseline, float] = {"centred": (GROUP - 1) / GROUP, "leave-one-out": 1.0}
    for baseline, expected in weights.items():
        worst = max((pull(p, baseline) / (p * (1 - p)) for p in (0.05, 0.5, 0.95)), key=lambda x: abs(x - expected))
        rows.append(compare(f"{baseline}: weight of any question", expected, worst, 1e-9))
    hard, even = (pull(p, "standardised") / (p * (1 - p)) for p in (0.05, 0.5))
    ours = f"{hard / even:.2f} times one of 0.5"
    rows.append(claim("standardised: weight of a question of 0.05", "more than of 0.5", ours, hard > 1.2 * even))
    return rows
