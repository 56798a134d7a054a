"""The large-margin heads: their decision boundaries against closed forms, their losses against sums by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from gridzero.agents.neural.choices import HEADS, HeadName
from gridzero.agents.neural.networks import heads
from gridzero.agents.neural.networks.heads import MARGINS, MarginHead, action_margin, margin_loss

ANGLE = 2.0
"""β between the two classes' weights, in radians: class 1 lies at 0, class 2 at β."""


def head(name: HeadName, margin: float, actions: int = 2, scale: float = 7.0) -> MarginHead:
    return MarginHead(2, actions, name, margin, scale, torch.Generator().manual_seed(0)).double()


def two_classes(name: HeadName, margin: float) -> MarginHead:
    made = head(name, margin)
    # Of different lengths, which must not matter to the heads that normalise.
    made.weight.data = torch.tensor([[3.0, 0.0], [0.5 * math.cos(ANGLE), 0.5 * math.sin(ANGLE)]], dtype=torch.float64)
    return made


def boundary(made: MarginHead, length: float, right: int = 0) -> float:
    """The angle φ of x at which an example of class ``right`` costs log 2: both classes seem equally good."""
    label = torch.tensor([[right == 0, right == 1]])

    def cost(angle: float) -> float:
        x = length * torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64)
        return made.loss(x, label).item() - math.log(2)

    return float(brentq(cost, 1e-6, ANGLE - 1e-6, xtol=1e-13))


CLOSED_FORMS: list[tuple[HeadName, float, float]] = [
    ("normface", 0.0, ANGLE / 2),  # cos θ_1 = cos θ_2
    ("sphereface", 1, ANGLE / 2),
    ("sphereface", 2, ANGLE / 3),  # cos 2θ_1 = cos θ_2
    ("sphereface", 4, ANGLE / 5),  # cos 4θ_1 = cos θ_2
    ("cosface", 0.35, ANGLE / 2 - math.asin(0.35 / (2 * math.sin(ANGLE / 2)))),  # cos θ_1 - m = cos θ_2
    ("cosface", 1.2, ANGLE / 2 - math.asin(1.2 / (2 * math.sin(ANGLE / 2)))),
    ("arcface", 0.5, (ANGLE - 0.5) / 2),  # cos(θ_1 + m) = cos θ_2
    ("arcface", 1.5, (ANGLE - 1.5) / 2),
]


@pytest.mark.parametrize(("name", "margin", "expected"), CLOSED_FORMS)
@pytest.mark.parametrize("length", [0.1, 1.0, 5.0])
def test_the_boundary_between_two_classes_is_where_its_closed_form_says(
    name: HeadName, margin: float, expected: float, length: float
) -> None:
    made = two_classes(name, margin)
    assert boundary(made, length) == pytest.approx(expected, abs=1e-9)
    # For an example of the other class it lies as far on the other side: the margin is the strip between.
    assert boundary(made, length, right=1) == pytest.approx(ANGLE - expected, abs=1e-9)


@pytest.mark.parametrize("bias", [-0.4, 0.0, 0.7])
@pytest.mark.parametrize("length", [0.5, 2.0])
def test_the_boundary_of_the_plain_softmax_is_a_line(bias: float, length: float) -> None:
    made = two_classes("softmax", 0.0)
    made.bias.data = torch.tensor([bias, 0.0], dtype=torch.float64)
    angle = boundary(made, length)
    x, y = length * math.cos(angle), length * math.sin(angle)
    # (W_1 - W_2)·x + b_1 - b_2 = 0
    assert (3 - 0.5 * math.cos(ANGLE)) * x - 0.5 * math.sin(ANGLE) * y + bias == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", [name for name in HEADS if name != "softmax"])
def test_there_is_no_margin_in_acting(name: HeadName) -> None:
    made = two_classes(name, MARGINS[name])

    def difference(angle: float) -> float:
        logits = made(torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64))
        return (logits[0, 0] - logits[0, 1]).item()

    assert brentq(difference, 0, ANGLE, xtol=1e-13) == pytest.approx(ANGLE / 2, abs=1e-9)


@given(angle=st.floats(0, math.pi), margin=st.integers(1, 6))
def test_psi_is_its_definition_by_parts(angle: float, margin: int) -> None:
    found = heads.angular_psi(torch.tensor(math.cos(angle), dtype=torch.float64), margin).item()
    k = min(int(margin * angle / math.pi), margin - 1)
    assert found == pytest.approx((-1) ** k * math.cos(margin * angle) - 2 * k, abs=1e-6)


TARGETS: list[tuple[Callable[[torch.Tensor], torch.Tensor], str]] = [
    (lambda c: heads.angular_psi(c, 4), "psi"),
    (lambda c: heads.sphereface_target(c, 3, annealing=2.0), "sphereface"),
    (lambda c: heads.arcface_target(c, 0.5), "arcface"),
    (lambda c: heads.arcface_target(c, 2.5), "arcface, wide"),
    (lambda c: heads.cosface_target(c, 0.35), "cosface"),
]


@pytest.mark.parametrize("target", [target for target, _ in TARGETS], ids=[name for _, name in TARGETS])
def test_targets_fall_with_the_angle_without_a_jump_and_never_exceed_the_cosine(
    target: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    angles = torch.linspace(0, math.pi, 100_001, dtype=torch.float64)
    values = target(angles.cos())
    steps = values.diff()
    assert (steps <= 1e-9).all()
    assert steps.abs().max() < 1e-3
    assert (values <= angles.cos() + 1e-6).all()


@pytest.mark.parametrize("name", HEADS)
def test_gradients_are_the_slopes_of_the_loss(name: HeadName) -> None:
    made = head(name, MARGINS[name], actions=3)
    x = torch.tensor([[0.3, -1.2], [2.0, 0.5]], dtype=torch.float64, requires_grad=True)
    right = torch.tensor([[True, False, False], [False, True, True]])
    assert torch.autograd.gradcheck(lambda features: made.loss(features, right, 0.5), x)


@pytest.mark.parametrize("name", ["normface", "sphereface", "cosface", "arcface"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_gradients_are_finite_where_features_lie_on_a_weight(name: HeadName, sign: float) -> None:
    made = head(name, MARGINS[name]).float()
    x = (sign * made.weight.detach()[:1]).requires_grad_()
    made.loss(x, torch.tensor([[True, False]])).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_a_large_lambda_takes_the_margin_of_sphereface_away() -> None:
    cosine = torch.linspace(-1, 1, 11, dtype=torch.float64)
    assert torch.allclose(heads.sphereface_target(cosine, 4, annealing=1e12), cosine, atol=1e-9)
    assert torch.allclose(heads.sphereface_target(cosine, 4), heads.angular_psi(cosine, 4))
    halfway = heads.sphereface_target(cosine, 4, annealing=1.0)
    assert torch.allclose(halfway, (cosine + heads.angular_psi(cosine, 4)) / 2)


@given(st.data())
def test_with_one_right_action_the_loss_is_the_cross_entropy(data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.lists(st.floats(-30, 30), min_size=4, max_size=4), min_size=1, max_size=5))
    logits = torch.tensor(rows, dtype=torch.float64)
    labels = torch.tensor([data.draw(st.integers(0, 3)) for _ in rows])
    right = torch.nn.functional.one_hot(labels, 4).bool()
    expected = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    assert torch.allclose(margin_loss(logits, logits, right), expected, atol=1e-9)


def test_the_loss_with_a_margin_and_with_equals_by_hand() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    targets = logits - 0.5
    right = torch.tensor([[False, False, True], [True, False, True]])
    first = -math.log(math.exp(2.5) / (math.exp(2.5) + math.exp(1) + math.exp(2)))
    pair = math.exp(0.5) / (math.exp(0.5) + math.exp(2)), math.exp(2.5) / (math.exp(2.5) + math.exp(2))
    second = -(math.log(pair[0]) + math.log(pair[1])) / 2
    assert margin_loss(logits, targets, right).tolist() == pytest.approx([first, second])


def test_where_every_action_is_right_there_is_nothing_to_lose() -> None:
    logits = torch.zeros(1, 3, requires_grad=True)
    loss = margin_loss(logits, logits, torch.ones(1, 3, dtype=torch.bool)).sum()
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_the_action_margin_is_negative_where_the_choice_is_wrong() -> None:
    scores = torch.tensor([[0.9, 0.5, 0.8], [0.9, 0.5, 0.8], [0.9, 0.5, 0.8]])
    right = torch.tensor([[True, False, False], [True, False, True], [False, True, False]])
    assert action_margin(scores, right).tolist() == pytest.approx([0.1, 0.4, -0.4])
