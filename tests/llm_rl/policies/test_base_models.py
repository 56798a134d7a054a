"""Warm-ups of tiny base models."""

from __future__ import annotations

import torch

from gridzero.envs.tasks import make_task
from gridzero.llm_rl.policies.base_models import Recipe, base_name, warm_up

TINY = {"width": 16, "layers": 1, "heads": 2, "steps": 6, "batch": 4}


def weights(share: float, worked: int) -> list[torch.Tensor]:
    model, _ = warm_up(make_task("addition", worked=share), Recipe(worked=worked, **TINY))  # type: ignore[arg-type]
    return list(model.parameters())


def equal(some: list[torch.Tensor], others: list[torch.Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


def test_the_first_steps_see_worked_solutions_alone() -> None:
    assert equal(weights(0.25, 6), weights(1.0, 0))
    assert not equal(weights(0.25, 3), weights(1.0, 0))
    assert not equal(weights(0.25, 3), weights(0.25, 0))


def test_the_name_depends_on_what_is_shown() -> None:
    task = make_task("addition")
    assert len({base_name(task, Recipe(worked=worked)) for worked in (0, 1, 2)}) == 3
