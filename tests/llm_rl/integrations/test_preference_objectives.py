"""Our preference objectives against TRL's own, on the same tensors: losses and gradients."""

from __future__ import annotations

import importlib.util
from collections import defaultdict
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from torch import Tensor

from gridzero.agents.neural.preference_objectives import bradley_terry, dpo, ipo, reverse_kl, sft

pytestmark = pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="TRL is not installed")
PAIRS, TOKENS, VOCABULARY = 5, 7, 11


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def trainer(**settings: Any) -> Any:
    """What a trainer's loss reads of its trainer, without a model or files."""
    stub = MagicMock()
    stub.model.training = True
    stub.accelerator.device = torch.device("cpu")
    stub.accelerator.gather_for_metrics.side_effect = lambda tensor: tensor
    stub.accelerator.gather.side_effect = lambda tensor: tensor
    stub._metrics = {"train": defaultdict(list)}
    stub._total_train_tokens, stub._tp_size = 0, 1
    for name, value in settings.items():
        setattr(stub, name, value)
    return stub


def trl_dpo(loss_type: str, log_probs: Tensor, reference: Tensor, mask: Tensor, beta: float) -> Tensor:
    """The loss of TRL's DPOTrainer for log-probabilities (2 B, T) of tokens, the chosen ones first."""
    from trl import DPOTrainer

    stub = trainer(
        loss_types=[loss_type],
        loss_weights=[1.0],
        beta=beta,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        use_weighting=False,
        aux_loss_enabled=False,
        label_smoothing=0.0,
    )
    zeros = torch.zeros_like(log_probs)
    outputs = MagicMock(log_probs=log_probs, entropy=zeros, mean_logits=zeros, is_top1=mask[:, 1:])
    chosen, rejected = reference.sum(dim=1).chunk(2)
    inputs = {
        "input_ids": torch.zeros_like(mask, dtype=torch.long),
        "attention_mask": torch.ones_like(mask, dtype=torch.long),
        "completion_mask": mask.long(),
        "ref_chosen_logps": chosen,
        "ref_rejected_logps": rejected,
    }
    loss: Tensor = DPOTrainer._compute_loss(stub, lambda **keywords: outputs, inputs, False)
    return loss


@pytest.mark.parametrize("loss_type", ["sigmoid", "ipo"])
def test_dpo_and_ipo(loss_type: str) -> None:
    # TRL's IPO takes means over tokens: completions of one length, and τ times that, make it the paper's sums.
    mask = torch.ones(2 * PAIRS, TOKENS + 1, dtype=torch.bool)
    mask[:, 0] = False
    log_probs, reference = -drawn(2 * PAIRS, TOKENS).abs(), -drawn(2 * PAIRS, TOKENS, seed=1).abs()
    theirs, ours = log_probs.clone().requires_grad_(), log_probs.clone().requires_grad_()
    their_loss = trl_dpo(loss_type, theirs, reference, mask, 0.3)
    chosen, rejected = ours.sum(dim=1).chunk(2)
    four = (chosen, rejected, *reference.sum(dim=1).chunk(2))
    if loss_type == "sigmoid":
        loss = dpo(*four, beta=0.3).mean()
    else:
        loss = ipo(*(part / TOKENS for part in four), tau=0.3).mean()  # type: ignore[misc]
    torch.testing.assert_close(loss, their_loss)
    (their_gradient,) = torch.autograd.grad(their_loss, theirs)
    (gradient,) = torch.autograd.grad(loss, ours)
    torch.testing.assert_close(gradient, their_gradient)


def test_bradley_terry() -> None:
    from trl import RewardTrainer

    rewards = drawn(2 * PAIRS, 1)
    theirs, ours = rewards.clone().requires_grad_(), rewards.clone().requires_grad_()
    stub = trainer(args=SimpleNamespace(center_rewards_coefficient=None))
    inputs = {"attention_mask": torch.ones(2 * PAIRS, 1, dtype=torch.long)}
    their_loss = RewardTrainer.compute_loss(stub, lambda **keywords: MagicMock(logits=theirs), inputs)
    loss = bradley_terry(*ours.squeeze(1).chunk(2)).mean()
    torch.testing.assert_close(loss, their_loss)
    torch.testing.assert_close(torch.autograd.grad(loss, ours), torch.autograd.grad(their_loss, theirs))


def test_sft() -> None:
    """The mean over the tokens of completions; TRL's log-probabilities are 0 on prompts."""
    from trl import SFTTrainer

    mask = torch.arange(TOKENS) >= torch.arange(PAIRS).unsqueeze(1)
    log_probs = -drawn(PAIRS, TOKENS).abs() * mask
    theirs, ours = log_probs.clone().requires_grad_(), log_probs.clone().requires_grad_()
    zeros = torch.zeros_like(log_probs)
    outputs = MagicMock(log_probs=theirs, label_mask=mask, entropy=zeros, is_top1=zeros)
    stub = trainer(aux_loss_enabled=False, compute_loss_func=None, label_smoother=None)
    stub.accelerator.parallelism_config = None
    stub.args = SimpleNamespace(loss_type="nll", average_tokens_across_devices=False, max_length=None)
    inputs = {"input_ids": torch.zeros(PAIRS, TOKENS), "attention_mask": mask.long(), "labels": mask.long()}
    their_loss = SFTTrainer.compute_loss(stub, lambda **keywords: outputs, inputs)
    loss = sft(ours[mask]).mean()
    torch.testing.assert_close(loss, their_loss)
    # Where there is no token, there is no gradient of ours.
    (their_gradient,), (gradient,) = torch.autograd.grad(their_loss, theirs), torch.autograd.grad(loss, ours)
    torch.testing.assert_close(gradient, their_gradient * mask)


def test_reverse_kl() -> None:
    from trl.experimental.gkd import GKDTrainer

    logits, teacher = drawn(PAIRS, TOKENS, VOCABULARY), drawn(PAIRS, TOKENS, VOCABULARY, seed=1)
    theirs, ours = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    their_loss = GKDTrainer.generalized_jsd_loss(theirs, teacher, beta=1.0, reduction="sum")
    loss = reverse_kl(ours.flatten(0, 1), teacher.flatten(0, 1)).sum()
    torch.testing.assert_close(loss, their_loss)
    torch.testing.assert_close(torch.autograd.grad(loss, ours), torch.autograd.grad(their_loss, theirs))
