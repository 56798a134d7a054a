"""R1-Zero's curve: rewarded for right answers alone, a base model comes to think longer, and is right.

DeepSeek-AI (2025), DeepSeek-R1, figures 2 and 3, there with 671 billion weights on competition mathematics; here with
150 thousand on addition, so that shapes can be compared, not numbers.
"""

from __future__ import annotations

import gymnasium as gym
import numpy as np

from gridzero.agents import make as make_agent
from gridzero.figures.figure import Figure, FloatArray, Row, add_legend, claim, panels

RUNS, EPISODES = 1, 20_480
METRICS = ("accuracy", "thought_length")


def train(seed: int) -> dict[str, FloatArray]:
    """Metrics of each update of GRPO on addition, and "step", the completions so far."""
    env = gym.make("gridzero/TextGeneration-v0", task="addition")
    agent = make_agent("grpo", env, seed=seed, schedule_steps=EPISODES)
    found: dict[str, list[float]] = {name: [] for name in ("step", *METRICS)}
    for update in agent.learn():
        for name, numbers in found.items():
            numbers.append(float(update.step) if name == "step" else update.metrics[name])
        if update.step >= EPISODES:
            break
    return {name: np.array(numbers) for name, numbers in found.items()}


def make(seed: int) -> Figure:
    """Accuracy and length of the thoughts over training; it takes about half a minute of one core."""
    runs = [train(RUNS * seed + k) for k in range(RUNS)]
    picture, (right, length) = panels(2)
    rows: list[Row] = []
    for axes, name, title in ((right, "accuracy", "right answers"), (length, "thought_length", "tokens in a thought")):
        for k, found in enumerate(runs):
            axes.plot(found["step"] / 1000, found[name], label=f"seed {RUNS * seed + k}")
        axes.set(xlabel="thousand completions", title=title)
        add_legend(axes)
        first, last = (
            float(np.mean([found[name][part].mean() for found in runs])) for part in (slice(3), slice(-3, None))
        )
        rows.append(claim(title, "grow", f"{first:.2f} to {last:.2f}", last > first))
    share = min(float(found["accuracy"][-3:].mean()) for found in runs)
    rows.append(claim("right answers at the end, of the worse run", "most", f"{share:.3f}", share > 0.9))
    return Figure(picture, rows, "DeepSeek-R1, figures 2 and 3: R1-Zero's accuracy and length over training")
