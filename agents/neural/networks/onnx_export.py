"""Policies of networks as ONNX, which any runtime reads."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn

from gridzero.agents.neural.networks.distributions import Gaussian
from gridzero.agents.neural.networks.mlp_policy import MLPPolicy

OUTPUT = "outputs"


class Outputs(nn.Module):
    """Logits of choices, or means of continuous actions in the environment's own units, not clipped to its bounds.

    Args:
        policy: without a memory and without action masks; its normalisation of observations is part of it.
    """

    centre: Tensor
    radius: Tensor

    def __init__(self, policy: MLPPolicy) -> None:
        super().__init__()
        self.policy = policy
        self.names = list(policy.reader.leaves)
        actions = policy.actions
        centre, radius = (actions.centre, actions.radius) if isinstance(actions, Gaussian) else (0.0, 1.0)
        self.register_buffer("centre", torch.as_tensor(centre, dtype=torch.float32))
        self.register_buffer("radius", torch.as_tensor(radius, dtype=torch.float32))

    def forward(self, *leaves: Tensor) -> Tensor:
        """(N, outputs) for the leaves (N, …) of a batch of observations."""
        read = self.policy.standardise(dict(zip(self.names, leaves, strict=True)))
        return self.centre + self.radius * self.policy.outputs(self.policy.actor(read), read)


def write_onnx(policy: MLPPolicy, observation_space: gym.Space[object], path: Path) -> None:
    """Write a policy as an ONNX file: an input for each leaf of the observation, (N, …), one output (N, outputs).

    Args:
        policy: that was trained.
        observation_space: of one environment.
        path: of the file.

    Raises:
        ValueError: for a policy with a memory or with action masks, or where onnx and onnxscript are missing.
    """
    if not policy.memoryless or policy.masked:
        raise ValueError("a policy with a memory or with action masks cannot be exported to ONNX")
    if any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript")):
        raise ValueError("networks are exported to ONNX: pip install gridzero[onnx]")
    module = Outputs(policy).eval()
    example = policy.reader.tensors([observation_space.sample() for _ in range(2)])
    batch = torch.export.Dim("batch")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program: Any = torch.onnx.export(
            module,
            tuple(example.values()),
            input_names=[name.replace(".", "_") for name in module.names],
            output_names=[OUTPUT],
            dynamic_shapes={"leaves": tuple({0: batch} for _ in example)},
            dynamo=True,
        )
    program.save(str(path))
