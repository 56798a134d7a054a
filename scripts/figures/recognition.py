"""Are margins good for recognising what was never seen? Layouts for faces, and the test of LFW.

A network learns to tell thousands of layouts apart from pictures that are shifted, lit differently and noisy; then
it is asked of two pictures of layouts that it has never seen whether they show the same one. The heads are those of
``imitation --head``. Nothing is published about it: the table says what comes.

Sources of the question: Huang et al. (2007), Labeled faces in the wild; Deng et al. (2019), ArcFace, section 3.
"""

from __future__ import annotations

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from gridzero.agents.neural.choices import HEADS, HeadName
from gridzero.agents.neural.networks.heads import MARGINS, MarginHead
from gridzero.agents.neural.networks.torsos import Torso
from gridzero.agents.neural.optimiser import Optimiser
from gridzero.agents.neural.schedules import warm_cosine
from gridzero.envs.grid.layouts.generators import generate
from gridzero.figures.figure import Figure, FloatArray, Row, panels, shown

CLASSES, UNSEEN, PAIRS = 2000, 1000, 4000
SIDE, CANVAS = 9, 11
NOISE = 0.5
"""Deviation of a pixel; walls are 1 and the rest -1."""
HIDDEN, FEATURES = 256, 64
STEPS, BATCH, LEARNING_RATE, SCALE = 1500, 64, 3e-3, 24.0
SEEDS = 1


def layouts(first: int, count: int) -> Tensor:
    """(count, 9, 9) layouts, walls 1 and the rest -1."""
    cells = np.stack([generate("obstacles", SIDE, SIDE, first + key, 0.4) for key in range(count)])
    walls = cells == np.bincount(cells.ravel()).argsort()[-2]  # after the free cells they are the most
    return torch.from_numpy(np.where(walls, 1.0, -1.0).astype(np.float32))


def pictures(shown: Tensor, generator: torch.Generator) -> Tensor:
    """(N, 121) pictures of layouts (N, 9, 9): shifted by up to a cell, lit differently, noisy."""
    canvas = torch.zeros(len(shown), CANVAS, CANVAS)
    shifts = torch.randint(0, CANVAS - SIDE + 1, (len(shown), 2), generator=generator)
    rows = (shifts[:, :1] + torch.arange(SIDE))[:, :, None].expand(-1, -1, SIDE)
    columns = (shifts[:, 1:] + torch.arange(SIDE))[:, None, :].expand(-1, SIDE, -1)
    canvas[torch.arange(len(shown))[:, None, None], rows, columns] = shown
    light = 0.5 + torch.rand(len(shown), 1, 1, generator=generator)
    noise = NOISE * torch.randn(canvas.shape, generator=generator)
    return (light * canvas + noise).flatten(1)


def train(head: HeadName, seen: Tensor, seed: int) -> Torso:
    """A network that tells the layouts apart, without its head."""
    generator = torch.Generator().manual_seed(seed)
    space = {"picture": Box(-np.inf, np.inf, (CANVAS**2,), np.float32)}
    torso = Torso(space, (HIDDEN, HIDDEN, FEATURES), "relu", "none", generator)
    # Features of either sign and around 0, as ArcFace has them: else all angles are small, and margins only hurt.
    centred = torch.nn.BatchNorm1d(FEATURES, affine=False)
    torso.hidden = torch.nn.Sequential(*list(torso.hidden)[:-1], centred)
    classifier = MarginHead(FEATURES, len(seen), head, MARGINS[head], SCALE, generator)
    parameters = [*torso.parameters(), *classifier.parameters()]
    optimiser = Optimiser(parameters, epsilon=1e-8, max_norm=5.0)
    for step in range(STEPS):
        chosen = torch.randint(len(seen), (BATCH,), generator=generator)
        features = torso({"picture": pictures(seen[chosen], generator)})
        right = torch.nn.functional.one_hot(chosen, len(seen)).bool()
        annealing = max(5.0, 1000.0 / (1 + 0.1 * step))
        loss = classifier.loss(features, right, annealing).mean()
        optimiser.step([loss], LEARNING_RATE * warm_cosine(step / STEPS))
    return torso.eval()


def equal_error(same: FloatArray, different: FloatArray) -> float:
    """Share of errors at the threshold where as many pairs of the same are rejected as others are accepted.

    Example:
        >>> equal_error(np.array([0.9, 0.8, 0.2, 0.7]), np.array([0.1, 0.0, 0.3, 0.75]))
        0.25
    """
    thresholds = np.sort(np.concatenate([same, different]))
    rejected = np.searchsorted(np.sort(same), thresholds) / len(same)
    accepted = 1 - np.searchsorted(np.sort(different), thresholds) / len(different)
    best = np.abs(rejected - accepted).argmin()
    return float((rejected[best] + accepted[best]) / 2)


@torch.no_grad()
def scores(torso: Torso | None, unseen: Tensor, seed: int) -> tuple[FloatArray, FloatArray]:
    """Cosines of pairs that show the same layout, and of pairs that do not; of the pictures as they are for None."""
    generator = torch.Generator().manual_seed(seed)
    one = torch.randint(len(unseen), (PAIRS,), generator=generator)
    other = (one + torch.randint(1, len(unseen), (PAIRS,), generator=generator)) % len(unseen)
    found = [pictures(unseen[chosen], generator) for chosen in (one, one, other)]
    if torso is not None:
        found = [torso({"picture": part}) for part in found]
    first, again, another = (torch.nn.functional.normalize(part, dim=1) for part in found)
    return (first * again).sum(1).numpy(), (first * another).sum(1).numpy()


def make(seed: int) -> Figure:
    """Receiver operating characteristics of the heads, and their accuracies at equal error."""
    seen, unseen = layouts(0, CLASSES), layouts(10**6, UNSEEN)
    picture, (curves, densities) = panels(2)
    accuracies: dict[str, list[float]] = {"pictures as they are": [1 - equal_error(*scores(None, unseen, seed))]}
    for head in HEADS:
        accuracies[head] = []
        for repetition in range(SEEDS):
            same, different = scores(train(head, seen, SEEDS * seed + repetition), unseen, seed)
            accuracies[head].append(1 - equal_error(same, different))
        thresholds = np.quantile(different, 1 - np.geomspace(1e-3, 1, 60))
        curves.semilogx(np.geomspace(1e-3, 1, 60), [(same >= t).mean() for t in thresholds], label=head)
        if head in ("softmax", "arcface"):
            for found, style in ((same, "-"), (different, "--")):
                color = "C0" if head == "softmax" else "C4"
                counts, edges = np.histogram(found, bins=60, range=(-1, 1), density=True)
                densities.plot((edges[1:] + edges[:-1]) / 2, counts, style, color=color)
    curves.set(xlabel="different pairs accepted", ylabel="same pairs accepted", title="layouts never seen")
    densities.set(xlabel="cosine of two pictures", title="softmax blue, arcface violet; same pairs solid")
    curves.legend(fontsize=8)
    for axes in (curves, densities):
        axes.grid(alpha=0.3)
    rows: list[Row] = [shown(name, ", ".join(f"{share:.3f}" for share in found)) for name, found in accuracies.items()]
    source = f"Recognition: accuracy at equal error on pairs of unseen layouts, after {CLASSES:,} others"
    return Figure(picture, rows, source)
