"""The upper clip takes entropy from a policy that has nothing to learn; a higher one takes less of it.

Yu et al. (2025), DAPO, section 3.1 and figure 2b, there in training 32 billion weights; here 512 questions with 64
answers each, a table of logits for each question, and the functions with which GRPO learns.
"""

from __future__ import annotations

import numpy as np
import torch

from gridzero.agents.neural.objectives import categorical_entropy, clipped_surrogate, group_advantages
from gridzero.figures.figure import Figure, FloatArray, Row, add_legend, claim, panels, shown

QUESTIONS, ANSWERS, RIGHT, GROUP = 512, 64, 16, 16
UPDATES, EPOCHS, RATE = 100, 8, 1.0
CLIPS = {"0.2": 0.2, "0.28": 0.28, "none": 1e9}
"""ε_high; ε_low is 0.2."""


def learn(high: float, by_chance: bool, seed: int) -> FloatArray:
    """(UPDATES, 2) mean entropy, in nats, and share of right answers before each update.

    Args:
        high: ε_high.
        by_chance: whether an answer is rewarded by the toss of a coin, whatever it is.
        seed: decides everything that is random.
    """
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(QUESTIONS, ANSWERS, generator=generator)
    chosen = torch.rand(QUESTIONS, ANSWERS, generator=generator).argsort(1)[:, :RIGHT]
    right = torch.zeros(QUESTIONS, ANSWERS).scatter_(1, chosen, 1.0)
    found = []
    for _ in range(UPDATES):
        log_probs = logits.log_softmax(1)
        found.append([float(categorical_entropy(logits).mean()), float((log_probs.exp() * right).sum(1).mean())])
        answers = torch.multinomial(log_probs.exp(), GROUP, replacement=True, generator=generator)
        coins = (torch.rand(QUESTIONS, GROUP, generator=generator) < 0.5).float()
        advantages = group_advantages(coins if by_chance else right.gather(1, answers), "standardised")
        old = log_probs.gather(1, answers)
        for _ in range(EPOCHS):
            logits = logits.detach().requires_grad_()
            new = logits.log_softmax(1).gather(1, answers)
            objective = clipped_surrogate(new, old, advantages, clip=0.2, clip_high=high).mean(1).sum()
            (gradient,) = torch.autograd.grad(objective, logits)
            logits = logits.detach() + RATE * gradient
    return np.array(found)


def make(seed: int) -> Figure:
    """Entropy where rewards are chance, and entropy and accuracy where they are not."""
    picture, (chance, entropy, accuracy) = panels(3, columns=3, width=4.0)
    last: dict[str, float] = {}
    rows: list[Row] = []
    for name, high in CLIPS.items():
        by_chance, learnt = learn(high, True, seed), learn(high, False, seed)
        chance.plot(by_chance[:, 0], label=f"upper clip {name}")
        entropy.plot(learnt[:, 0], label=f"upper clip {name}")
        accuracy.plot(learnt[:, 1], label=f"upper clip {name}")
        last[name] = float(by_chance[-1, 0])
        right = f"{learnt[10, 1]:.3f} right, {learnt[10, 0]:.2f} nats"
        rows.append(shown(f"right answers rewarded, after 10 updates, upper clip {name}", right))
    chance.set(xlabel="updates", ylabel="nats", title="entropy, rewarded by chance")
    entropy.set(xlabel="updates", ylabel="nats", title="entropy, right answers rewarded")
    accuracy.set(xlabel="updates", title="right answers, where rewarded")
    for axes in (chance, entropy, accuracy):
        add_legend(axes, fontsize=8)
    ours = ", ".join(f"{last[name]:.2f}" for name in CLIPS)
    falls = last["0.2"] < last["0.28"] < last["none"]
    rows.insert(0, claim("entropy at the end, by chance, upper clip 0.2, 0.28, none", "more with higher", ours, falls))
    return Figure(picture, rows, "DAPO, section 3.1 and figure 2b: clip-higher and entropy")
