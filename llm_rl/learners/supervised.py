"""Supervised gradient steps on worked solutions, with the loss on completions alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from gridzero.envs.tasks.task import Task
from gridzero.llm_rl.models.causal import OutputHead, hidden_states, output_head
from gridzero.llm_rl.scoring.packed_forward import packed_forward
from gridzero.llm_rl.scoring.packing import Packing
from gridzero.llm_rl.scoring.token_log_probs import token_log_probs

BETAS = (0.9, 0.99)
WEIGHT_DECAY = 0.01
MAX_GRADIENT_NORM = 1.0
_ROWS_OF_LOGITS = 1024


@dataclass(frozen=True)
class Demonstration:
    """Tokens of a prompt and a worked solution, or of a whole conversation.

    Attributes:
        tokens: all of them.
        completion: of each, whether it belongs to a completion.
    """

    tokens: list[int]
    completion: list[bool]


class Encode(Protocol):
    """A function from a text to its tokens."""

    def __call__(self, text: str, *, begins: bool) -> list[int]:
        """The tokens of ``text``; ``begins`` says whether a conversation begins with it."""


def demonstrate(task: Task, rng: np.random.Generator, encode: Encode, end: int) -> Demonstration:
    """A demonstration of a random problem; each completion ends with the token ``end``.

    Raises:
        ValueError: for a task without worked solutions, or text that has no tokens.
    """
    problem = task.sample(rng)
    tokens = encode(task.prompt(problem), begins=True)
    completion = [False] * len(tokens)
    completions: list[str] = []
    reply: str | None = ""
    while reply is not None:
        heard = encode(reply, begins=False) if reply else []
        completions.append(task.demonstrate(problem, rng, completions))
        written = [*encode(completions[-1], begins=False), end]
        tokens += heard + written
        completion += [False] * len(heard) + [True] * len(written)
        reply = task.reply(problem, completions)
    return Demonstration(tokens, completion)


def completion_loss(model: Any, demonstrations: Sequence[Demonstration], pad: int) -> tuple[Tensor, Tensor]:
    """Mean of -log p over the completions' tokens, in nats, and the share of them that the model finds most likely.

    Args:
        model: a causal model.
        demonstrations: prompts that are equal are read once.
        pad: the token that fills up.
    """
    device = next(model.parameters()).device
    lengths = torch.tensor([len(one.tokens) for one in demonstrations])
    width = int(lengths.max())
    tokens = torch.tensor([one.tokens + [pad] * (width - len(one.tokens)) for one in demonstrations])
    own = torch.tensor([one.completion + [False] * (width - len(one.tokens)) for one in demonstrations])
    packing = Packing.of(tokens[:, :-1], own.int().argmax(dim=1), lengths - 1)
    states = packed_forward(model, packing.to(device))
    if states is None:
        chosen = hidden_states(model, tokens[:, :-1].to(device))[own[:, 1:].to(device)]
    else:
        chosen = states[packing.places[own[:, 1:]].to(device)]
    head, targets = output_head(model), tokens[own].to(device)
    log_probs, _ = token_log_probs(
        chosen, head.weight, targets, bias=head.bias, scale=head.scale, soft_cap=head.soft_cap
    )
    return -log_probs.mean(), _accuracy(chosen.detach(), head, targets)


@torch.no_grad()
def _accuracy(states: Tensor, head: OutputHead, targets: Tensor) -> Tensor:
    """Share of the targets (N,) that have the highest logit, for states (N, D); few rows of logits exist at once."""
    parts = zip(torch.split(states, _ROWS_OF_LOGITS), torch.split(targets, _ROWS_OF_LOGITS), strict=True)
    right = [(nn.functional.linear(part, head.weight, head.bias).argmax(dim=-1) == own).sum() for part, own in parts]
    return torch.stack(right).sum() / len(targets)


def warm_cosine(progress: float) -> float:
    """The learning rate's factor: a linear rise over a twentieth of training, times a cosine that falls from 1 to 0.

    >>> warm_cosine(0.025), warm_cosine(1.0)
    (0.4992293..., 0.0)
    """
    return float(min(1.0, 20 * progress) * 0.5 * (1 + np.cos(np.pi * progress)))


class SupervisedTrainer:
    """AdamW on demonstrations.

    Args:
        model: a causal model.
        parameters: those that are trained.
        pad: the token that fills up.
    """

    def __init__(self, model: Any, parameters: Iterable[nn.Parameter], pad: int) -> None:
        self.model = model
        self.pad = pad
        self.parameters = list(parameters)
        self.optimiser = torch.optim.AdamW(self.parameters, betas=BETAS, weight_decay=WEIGHT_DECAY, fused=True)

    def step(self, demonstrations: Sequence[Demonstration], learning_rate: float) -> dict[str, float]:
        """One gradient step; returns loss in nats a token, token accuracy and the gradient's norm before clipping."""
        self.optimiser.param_groups[0]["lr"] = learning_rate
        self.optimiser.zero_grad(set_to_none=True)
        loss, accuracy = completion_loss(self.model, demonstrations, self.pad)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, MAX_GRADIENT_NORM)
        self.optimiser.step()
        return {"loss": float(loss.detach()), "token_accuracy": float(accuracy), "gradient_norm": float(norm)}

    def state_dict(self) -> dict[str, Any]:
        """The optimiser's averages and step count of each parameter, as arrays."""
        state = self.optimiser.state_dict()["state"]
        return {
            str(place): {name: value.detach().cpu().float().numpy().copy() for name, value in entries.items()}
            for place, entries in state.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``."""
        entries = {
            int(place): {name: torch.from_numpy(np.array(value)) for name, value in own.items()}
            for place, own in state.items()
        }
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": entries, "param_groups": groups})
