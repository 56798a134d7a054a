"""Optimiser settings and the learning rate's schedule in post-training."""

from __future__ import annotations

from typing import Literal, TypedDict

import numpy as np

Optimisation = Literal["adamw", "muon"]


class OptimiserSettings(TypedDict):
    """Keywords of :class:`~gridzero.agents.neural.optimiser.Optimiser`."""

    epsilon: float
    max_norm: float
    betas: tuple[float, float]
    weight_decay: float


OPTIMISER: OptimiserSettings = {"epsilon": 1e-8, "max_norm": 1.0, "betas": (0.9, 0.99), "weight_decay": 0.01}
"""AdamW of supervised learning."""


def warm_cosine(progress: float) -> float:
    """The learning rate's factor: a linear rise over a twentieth of training, times a cosine that falls from 1 to 0.

    >>> warm_cosine(0.025), warm_cosine(1.0)
    (0.4992293..., 0.0)
    """
    return float(min(1.0, 20 * progress) * 0.5 * (1 + np.cos(np.pi * progress)))
