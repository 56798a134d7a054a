"""Where the margins of SphereFace, CosFace and ArcFace put the boundary between two classes.

Liu et al. (2017), SphereFace, equation 7 and figure 3; Wang et al. (2018), CosFace, figure 2; Deng et al. (2019),
ArcFace, figures 3 and 5. The heads are those of ``imitation --head``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from gridzero.agents.neural.choices import HEADS, HeadName
from gridzero.agents.neural.networks.heads import MARGINS, arcface_target, cosface_target, cosines, sphereface_target
from gridzero.figures.figure import Figure, FloatArray, Row, add_legend, compare, panels, shown

APART = math.pi / 3
"""Angle between the weights of the two classes."""
DEGREES = np.linspace(0, 180, 721)


def target(head: HeadName, cosine: torch.Tensor) -> torch.Tensor:
    """The right class's logit in training, over the scale."""
    if head == "sphereface":
        return sphereface_target(cosine, int(MARGINS[head]))
    if head == "cosface":
        return cosface_target(cosine, MARGINS[head])
    return arcface_target(cosine, MARGINS[head]) if head == "arcface" else cosine


def boundary(head: HeadName) -> float:
    """The largest angle θ_1, in degrees, at which an example of class 1 between the two weights is right in training.

    θ_2 is what is left of the angle between the weights.
    """
    angles = torch.linspace(0, APART, 200_001, dtype=torch.float64)
    right = target(head, angles.cos()) >= (APART - angles).cos()
    return math.degrees(float(angles[right].max()))


def make(seed: int) -> Figure:
    """Regions of two classes in the plane and over the two angles, and the logits; nothing in them is random."""
    del seed
    picture, axes = panels(7, columns=4, width=3.3, height=3.2)
    for panel, head in zip(axes, HEADS, strict=False):
        _plane(panel, head)
    cosine = torch.from_numpy(np.cos(np.radians(DEGREES)))
    for head in HEADS[1:]:
        axes[5].plot(DEGREES, target(head, cosine).numpy(), label=head)
        axes[6].plot(*_angles(head), label=head)
    axes[5].set(xlabel="θ (degrees)", title="right class's logit over its scale")
    axes[6].set(xlabel="θ₁ (degrees)", ylabel="θ₂ (degrees)", xlim=(0, 90), ylim=(0, 90), title="class 1 is above")
    for panel in axes[5:]:
        add_legend(panel, fontsize=7)
    return Figure(picture, _rows(), "SphereFace, CosFace and ArcFace: boundaries between two classes")


def _angles(head: HeadName) -> tuple[FloatArray, FloatArray]:
    """θ_1, and the least θ_2 with which class 1 is right."""
    first = np.linspace(0, 90, 181)
    least = target(head, torch.from_numpy(np.cos(np.radians(first)))).numpy()
    return first, np.degrees(np.arccos(np.clip(least, -1, 1)))


def _plane(axes: Any, head: HeadName) -> None:
    """Points of the plane: right as class 1, right as class 2, or as neither in training."""
    line = torch.linspace(-1.2, 1.2, 241)
    points = torch.cartesian_prod(line, line)
    weights = torch.tensor([[math.sin(APART / 2), math.cos(APART / 2)], [-math.sin(APART / 2), math.cos(APART / 2)]])
    cosine = cosines(points, weights)
    margins = target(head, cosine) - cosine.flip(1)
    colors = np.full((len(points), 3), 0.93)
    colors[(margins[:, 0] >= 0).numpy()] = (0.62, 0.78, 0.93)
    colors[(margins[:, 1] >= 0).numpy()] = (0.99, 0.80, 0.58)
    axes.imshow(colors.reshape(241, 241, 3).transpose(1, 0, 2), origin="lower", extent=(-1.2, 1.2, -1.2, 1.2))
    for weight, color in zip(weights.numpy(), ("C0", "C1"), strict=True):
        axes.annotate("", xy=weight, xytext=(0, 0), arrowprops={"arrowstyle": "->", "color": color, "lw": 2})
    name = f"{head}, m = {MARGINS[head]:g}" if MARGINS[head] else head
    axes.set(title=name, xticks=[], yticks=[])


def _rows() -> list[Row]:
    half = math.degrees(APART / 2)
    rows = [compare(f"{head}: boundary, weights 60° apart", half, boundary(head), 0.01) for head in HEADS[:2]]
    # cos mθ_1 = cos θ_2; cos θ_1 - m = cos θ_2; θ_1 + m = θ_2: solved with θ_1 + θ_2 = 60°.
    m = {head: MARGINS[head] for head in HEADS}
    exact: dict[HeadName, float] = {
        "sphereface": 60 / (m["sphereface"] + 1),
        "cosface": half - math.degrees(math.asin(m["cosface"] / (2 * math.sin(APART / 2)))),
        "arcface": half - math.degrees(m["arcface"]) / 2,
    }
    rows += [compare(f"{head}: boundary, weights 60° apart", exact[head], boundary(head), 0.01) for head in exact]
    rows += [shown(f"{head}: gap between the classes", f"{2 * (half - boundary(head)):.1f}°") for head in exact]
    widths = []
    for first in (20.0, 40.0):
        angle = torch.tensor(math.radians(first), dtype=torch.float64)
        widths.append(math.degrees(float(arcface_target(angle.cos(), m["arcface"]).acos())) - first)
    rows += [
        compare(f"arcface: margin in angle at θ₁ = {first}°", math.degrees(m["arcface"]), width, 0.01)
        for first, width in zip((20, 40), widths, strict=True)
    ]
    return rows
