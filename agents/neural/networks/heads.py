r"""Softmax classifiers with large margins, over actions.

A state's features x (D) are classified by one weight vector W_a (D) for each action a. θ_a is the angle between x and
W_a. The heads differ in the logit f_a of the right action while training; the others, and all when acting, have no
margin:

==========  =======================  ==========================  ============================================
head        logit                    right action, in training   boundary between right action 1 and action 2
==========  =======================  ==========================  ============================================
softmax     W_a·x + b_a              the same                    (W_1 - W_2)·x + b_1 - b_2 = 0
normface    s cos θ_a                the same                    cos θ_1 = cos θ_2
sphereface  ‖x‖ cos θ_a              ‖x‖ ψ(θ_1)                  ψ(θ_1) = cos θ_2 (cos mθ_1, for θ_1 ≤ π/m)
cosface     s cos θ_a                s (cos θ_1 - m)             cos θ_1 - m = cos θ_2
arcface     s cos θ_a                s cos(θ_1 + m)              cos(θ_1 + m) = cos θ_2
==========  =======================  ==========================  ============================================

Sources: Wang et al. (2017), NormFace; Liu et al. (2017), SphereFace; Wang et al. (2018), CosFace; Deng et al. (2019),
ArcFace.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from gridzero.agents.neural.choices import HeadName

MARGINS: dict[HeadName, float] = {"softmax": 0.0, "normface": 0.0, "sphereface": 4.0, "cosface": 0.35, "arcface": 0.5}
"""The papers' margins."""


def cosines(features: Tensor, weights: Tensor) -> Tensor:
    """Cosines of the angles θ of features (N, D) with weights (A, D), as (N, A).

    >>> cosines(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, -2.0]]))
    tensor([[ 0.6000, -0.8000]])
    """
    return functional.normalize(features, dim=-1) @ functional.normalize(weights, dim=-1).T


def angular_psi(cosine: Tensor, margin: int) -> Tensor:
    r"""ψ(θ) = (-1)^k cos(mθ) - 2k for θ in [kπ/m, (k+1)π/m]: cos(mθ), continued so that it falls all the way to π.

    Args:
        cosine: cos θ, any shape.
        margin: m, at least 1.

    Source: Liu et al. (2017), SphereFace, equation 7. cos(mθ) is the Chebyshev polynomial T_m(cos θ).

    >>> angular_psi(torch.tensor([1.0, 0.0, -1.0]), 2)
    tensor([ 1., -1., -3.])
    """
    before, chebyshev = torch.ones_like(cosine), cosine
    for _ in range(margin - 1):
        before, chebyshev = chebyshev, 2 * cosine * chebyshev - before
    k = (margin * cosine.detach().clamp(-1, 1).acos() / math.pi).floor().clamp(max=margin - 1)
    return (1 - 2 * (k % 2)) * chebyshev - 2 * k


def sphereface_target(cosine: Tensor, margin: int, annealing: float = 0.0) -> Tensor:
    """(λ cos θ + ψ(θ)) / (1 + λ), the right action's logit over ‖x‖; a large λ takes the margin away.

    Args:
        cosine: cos θ, any shape.
        margin: m.
        annealing: λ, at least 0.

    Source: Liu et al. (2017), SphereFace, equation 7, and its appendix on annealing.
    """
    return (annealing * cosine + angular_psi(cosine, margin)) / (1 + annealing)


def cosface_target(cosine: Tensor, margin: float) -> Tensor:
    """Cos θ - m, the right action's logit over s (Wang et al., 2018, CosFace, equation 4)."""
    return cosine - margin


def arcface_target(cosine: Tensor, margin: float) -> Tensor:
    """cos(θ + m), the right action's logit over s (Deng et al., 2019, ArcFace, equation 3).

    Beyond θ = π - m, where that would rise again, it goes on as cos θ - (1 - cos m), which joins it there and falls.

    >>> arcface_target(torch.tensor([1.0, 0.0, -1.0]), torch.pi / 3)
    tensor([ 0.5000, -0.8660, -1.5000])
    """
    sine = (1 - cosine.square()).clamp(min=1e-12).sqrt()
    turned = cosine * math.cos(margin) - sine * math.sin(margin)
    return torch.where(cosine > -math.cos(margin), turned, cosine - (1 - math.cos(margin)))


def margin_loss(logits: Tensor, targets: Tensor, right: Tensor) -> Tensor:
    r"""(N,) cross-entropy of each right action against the wrong ones, averaged over the right ones.

    $-\frac{1}{|R|} \sum_{a \in R} \log \frac{e^{t_a}}{e^{t_a} + \sum_{j \notin R} e^{f_j}}$

    With one right action this is the softmax loss. Where several are right, all are held against the wrong ones and
    none against each other: there is no margin to be had between equals.

    Args:
        logits: (N, A) f, without a margin.
        targets: (N, A) t, what each logit is where its action is right.
        right: (N, A) bool, at least one in each row.

    >>> loss = margin_loss(torch.zeros(1, 3), torch.zeros(1, 3), torch.tensor([[True, False, False]]))
    >>> round(loss.item(), 4) == round(math.log(3), 4)
    True
    """
    wrong = logits.masked_fill(right, -torch.inf).logsumexp(dim=-1, keepdim=True)
    wrong = wrong.clamp(min=-1e9)  # where every action is right
    losses = functional.softplus(wrong - targets)
    return losses.masked_fill(~right, 0.0).sum(dim=-1) / right.sum(dim=-1)


def action_margin(scores: Tensor, right: Tensor) -> Tensor:
    """(N,) the score of the best right action less that of the best wrong one: negative where the choice is wrong.

    Args:
        scores: (N, A) logits or cosines.
        right: (N, A) bool; infinite where all are right.

    >>> action_margin(torch.tensor([[0.9, 0.5, 0.8]]), torch.tensor([[True, False, True]]))
    tensor([0.4000])
    """
    best = scores.masked_fill(~right, -torch.inf).amax(dim=-1)
    return best - scores.masked_fill(right, -torch.inf).amax(dim=-1)


class MarginHead(nn.Linear):
    """The last layer of a classifier over actions, with its loss.

    Args:
        features: D.
        actions: A.
        name: which one.
        margin: m; a whole number for sphereface.
        scale: s, of normface, cosface and arcface.
        generator: draws the initial weights.
    """

    def __init__(
        self, features: int, actions: int, name: HeadName, margin: float, scale: float, generator: torch.Generator
    ) -> None:
        super().__init__(features, actions, bias=name == "softmax")
        nn.init.orthogonal_(self.weight, generator=generator)
        if name == "softmax":
            nn.init.zeros_(self.bias)
        self.name: HeadName = name
        self.margin, self.scale = margin, scale

    def forward(self, features: Tensor) -> Tensor:
        """Logits (..., A) without a margin, of features (..., D)."""
        if self.name == "softmax":
            return super().forward(features)
        return self._length(features) * cosines(features, self.weight)

    def _length(self, features: Tensor) -> Tensor | float:
        return features.norm(dim=-1, keepdim=True) if self.name == "sphereface" else self.scale

    def loss(self, features: Tensor, right: Tensor, annealing: float = 0.0) -> Tensor:
        """(N,) the loss with the margin.

        Args:
            features: (N, D).
            right: (N, A) bool, at least one in each row.
            annealing: λ of sphereface.
        """
        if self.name == "softmax":
            logits = super().forward(features)
            return margin_loss(logits, logits, right)
        cosine, length = cosines(features, self.weight), self._length(features)
        target = cosine
        if self.name == "sphereface":
            target = sphereface_target(cosine, int(self.margin), annealing)
        elif self.name == "cosface":
            target = cosface_target(cosine, self.margin)
        elif self.name == "arcface":
            target = arcface_target(cosine, self.margin)
        return margin_loss(length * cosine, length * target, right)
