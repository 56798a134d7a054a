"""Losses on the same tensors as TRL's: gradients of log-probabilities and entropies, and the shares of clips."""

import contextlib
import importlib.util
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from gridzero.agents.neural.batches import Minibatch, ReferenceMinibatch, Rollout, Steps
from gridzero.agents.neural.grpo import GRPO, VARIANTS, GRPOConfig
from gridzero.agents.neural.policy import Scores
from gridzero.llm_rl.integrations.trl_engine import trl_settings

pytestmark = pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="TRL is not installed")
LIMIT = 9
MASK = torch.arange(6) < torch.tensor([[6], [3], [1], [5]])


def tensors() -> dict[str, torch.Tensor]:
    """Scores of four completions of up to six tokens, and what was known before them."""
    rng = np.random.default_rng(5)
    found = {name: torch.from_numpy(rng.normal(size=(4, 6)) * 0.3 - 1) for name in ("new", "old", "reference")}
    found["entropies"] = torch.from_numpy(rng.uniform(size=(4, 6)))
    found["advantages"] = torch.from_numpy(rng.normal(size=(4, 1)))
    for name in ("new", "entropies"):
        found[name].requires_grad_()
    return found


def stand_in(given: dict[str, torch.Tensor], settings: dict[str, Any]) -> Any:
    """What a trainer's loss reads, with a model that scores as given."""
    alone = SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x, sync_gradients=True)
    fields = {
        "args": SimpleNamespace(use_bias_correction_kl=settings["use_bias_correction_kl"], delta=None,
                                steps_per_generation=1),
        "_get_per_token_logps_and_entropies": lambda *a, **k: (given["new"], given["entropies"], None),
        "aux_loss_enabled": False, "top_entropy_quantile": 1.0, "off_policy_mask_threshold": None, "use_vllm": False,
        "importance_sampling_level": settings["importance_sampling_level"], "loss_type": settings["loss_type"],
        "beta": settings["beta"], "epsilon_low": settings["epsilon"], "epsilon_high": settings["epsilon_high"],
        "max_completion_length": LIMIT, "current_gradient_accumulation_steps": 1, "accelerator": alone,
        "_entropy_bonus_enabled": settings["entropy_coef"] > 0, "entropy_coef": settings["entropy_coef"],
        "use_adaptive_entropy": False, "model": SimpleNamespace(training=True),
        "_metrics": defaultdict(lambda: defaultdict(list)),
    }  # fmt: skip
    return SimpleNamespace(**fields)


def ours(given: dict[str, torch.Tensor], config: GRPOConfig) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    steps = Steps({}, torch.zeros(4, 6).long(), MASK, torch.zeros_like(MASK), torch.zeros(4, 0))
    rollout = Rollout(steps, given["old"], torch.zeros(4, 6), MASK, MASK, torch.ones(4))
    learner: Any = SimpleNamespace(
        config=config, network=SimpleNamespace(evaluate_actions=lambda _: Scores(given["new"], given["entropies"]))
    )
    learner._counted = GRPO._counted.__get__(learner)
    weights = GRPO._weights(learner, rollout)
    batch = Minibatch(steps, given["old"], given["advantages"], weights)
    if config.kl_coefficient:
        batch = ReferenceMinibatch(steps, given["old"], given["advantages"], weights, given["reference"])
    return GRPO._loss(learner, batch, clip_factor=1.0, step_bonus=config.entropy_coefficient / int(MASK.sum()))


@pytest.mark.parametrize("kl", [0.0, 0.3])
@pytest.mark.parametrize("entropy", [0.0, 0.2])
@pytest.mark.parametrize("variant", ["grpo", "dr_grpo", "dapo", "gspo", "cispo"])
def test_gradients_and_clips_of_grpo(variant: str, entropy: float, kl: float) -> None:
    import trl

    fields = dict(VARIANTS[variant]) | {"resampling": 0, "overlong_margin": 0.0}
    fields |= {"kl_coefficient": kl, "entropy_coefficient": entropy, "entropy_schedule": "constant"}
    config = GRPOConfig(**{"gamma": 1.0, "episode_limit": LIMIT, "groups": 2, "group_size": 2, **fields})
    given = tensors()
    inputs = {
        "prompt_ids": torch.zeros(4, 1), "prompt_mask": torch.ones(4, 1),
        "completion_ids": torch.zeros(4, 6), "completion_mask": MASK.double(),
        "advantages": given["advantages"].squeeze(1), "old_per_token_logps": given["old"],
        "ref_per_token_logps": given["reference"], "num_items_in_batch": MASK.sum(),
    }  # fmt: skip
    stand = stand_in(given, trl_settings(config))
    leaves = [given["new"], given["entropies"]]
    loss = trl.GRPOTrainer._compute_loss(stand, None, inputs)
    theirs = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
    own, terms = ours(given, config)
    found = torch.autograd.grad(own, leaves, allow_unused=True, materialize_grads=True)
    torch.testing.assert_close(found, theirs)
    torch.testing.assert_close(own, loss)
    with contextlib.suppress(KeyError):
        name = "clip_ratio/region_mean"
        assert float(terms["clip_fraction"]) == pytest.approx(dict(stand._metrics["train"])[name][0])


def test_gradient_and_clips_of_rloo() -> None:
    import trl

    given = tensors()
    config = GRPOConfig(variant="rloo", **VARIANTS["rloo"], entropy_coefficient=0.0, episode_limit=LIMIT, group_size=2)
    inputs = {
        "prompt_ids": torch.zeros(4, 1), "prompt_mask": torch.ones(4, 1),
        "completion_ids": torch.zeros(4, 6), "completion_mask": MASK.double(),
        "advantages": given["advantages"].squeeze(1), "old_logps": (given["old"] * MASK).sum(1),
    }  # fmt: skip
    settings = {"use_bias_correction_kl": False, "importance_sampling_level": "", "loss_type": "", "beta": 0.0}
    stand = stand_in(given, {**settings, "epsilon": 0.2, "epsilon_high": 0.2, "entropy_coef": 0.0})
    loss = trl.RLOOTrainer._compute_loss(stand, None, inputs)
    (theirs,) = torch.autograd.grad(loss, given["new"])
    own, terms = ours(given, config)
    torch.testing.assert_close(torch.autograd.grad(own, given["new"])[0], theirs)
    torch.testing.assert_close(own, loss)
    assert float(terms["clip_fraction"]) == pytest.approx(stand._metrics["train"]["clip_ratio/region_mean"][0])
