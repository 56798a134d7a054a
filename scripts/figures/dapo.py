"""A higher upper clip keeps the entropy of the policy up.

Yu et al. (2025), DAPO, section 3.1 and figure 2b, there with 32 billion weights on competition mathematics; here with
150 thousand on addition, so that the order can be compared, not the numbers.
"""

from __future__ import annotations

import numpy as np

from gridzero.figures.addition import run
from gridzero.figures.figure import Figure, Row, claim, panels, shown

RUNS, EPISODES = 1, 10_240
METRICS = ("accuracy", "entropy", "clip_fraction")
CLIPS = {"ε 0.2": 0.2, "ε 0.2, above 0.28": 0.28}
TITLES = {"accuracy": "right answers", "entropy": "entropy (nats)", "clip_fraction": "share of tokens clipped"}


def make(seed: int) -> Figure:
    """Entropy and accuracy with and without clip-higher, four passes over each batch."""
    picture, axes = panels(3, columns=3, width=3.8)
    means: dict[str, dict[str, float]] = {}
    for color, (name, high) in enumerate(CLIPS.items()):
        settings = {"epochs": 4, "clip": 0.2, "clip_high": high, "normalisation": "token", "baseline": "standardised"}
        runs = [run(METRICS, EPISODES, RUNS * seed + k, **settings) for k in range(RUNS)]
        means[name] = {metric: float(np.mean([found[metric].mean() for found in runs])) for metric in METRICS}
        for panel, metric in zip(axes, METRICS, strict=True):
            for k, found in enumerate(runs):
                panel.plot(found["step"] / 1000, found[metric], color=f"C{color}", lw=1, label=None if k else name)
    for panel, metric in zip(axes, METRICS, strict=True):
        panel.set(xlabel="thousand completions", title=TITLES[metric])
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    without, higher = means.values()
    ours = f"{without['entropy']:.4f} and {higher['entropy']:.4f}"
    rows: list[Row] = [
        claim("mean entropy without and with clip-higher", "more with", ours, higher["entropy"] > without["entropy"]),
        *(
            shown(f"{TITLES[metric]}, {name}", f"{found[metric]:.4f}")
            for name, found in means.items()
            for metric in METRICS
        ),
    ]
    return Figure(picture, rows, f"DAPO, figure 2b: clip-higher and entropy, {RUNS} run each")
