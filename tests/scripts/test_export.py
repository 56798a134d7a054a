"""Exports: other libraries load them and act, or write, alike."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gridzero
from gridzero.__main__ import main
from gridzero.llm_rl.models.pretrained import load_model


def test_stable_baselines3_loads_its_zip(capsys: pytest.CaptureFixture[str]) -> None:
    from stable_baselines3 import PPO

    quick = ["--n-steps", "32", "--n-epochs", "1", "--hidden", "8", "--steps", "256", "--evaluation-episodes", "2"]
    assert main(["train", "sb3-ppo", "--env", "CartPole-v1", *quick, "--run", "pole"]) == 0
    assert main(["export", "pole"]) == 0
    assert "stable_baselines3.PPO.load('pole.zip')" in capsys.readouterr().out
    observations = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    actions, _ = PPO.load("pole.zip").predict(observations, deterministic=True)
    assert actions.tolist() == gridzero.agents.load("pole").act(observations).tolist()
    assert main(["export", "pole", "--output", "other"]) == 0
    assert "PPO.load('other.zip')" in capsys.readouterr().out
    assert Path("other.zip").is_file()
    assert main(["export", "pole", "--output", "pole.onnx"]) == 2
    assert "sb3-ppo is exported to .zip, not .onnx" in capsys.readouterr().err


def test_transformers_loads_a_language_model(capsys: pytest.CaptureFixture[str]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    words = ["--env", "gridzero/TextGeneration-v0", "--env.task", "addition", "--env.digits", "1"]
    quick = ["--steps", "64", "--evaluation-episodes", "2", "--evaluate-every", "0"]
    assert main(["train", "sft", *words, *quick, "--run", "sums"]) == 0
    assert main(["export", "sums", "--output", "hub"]) == 0
    assert "AutoModelForCausalLM.from_pretrained('hub')" in capsys.readouterr().out
    model: Any = AutoModelForCausalLM.from_pretrained("hub")
    ours: Any = gridzero.agents.load("sums")
    for name, tensor in ours.network.model.state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[name].numpy(), tensor.numpy())
    assert len(AutoTokenizer.from_pretrained("hub")) > 0
    assert "sft" in Path("hub/README.md").read_text()


def test_peft_loads_adapters_of_a_base_model_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    import torch
    from peft import AutoPeftModelForCausalLM

    quick = ["--steps", "16", "--groups", "2", "--group-size", "2", "--evaluate-every", "0"]
    assert main(["train", "grpo", "--env", "gridzero/TextGeneration-v0", *quick, "--policy.peft", "ia3"]) == 0
    [run] = Path("runs").iterdir()
    assert main(["export", run.name, "--output", "hub"]) == 0
    assert "AutoPeftModelForCausalLM.from_pretrained('hub')" in capsys.readouterr().out
    ours: Any = gridzero.agents.load(run.name)
    tokens = torch.tensor([[3, 1, 4]])
    for model in (AutoPeftModelForCausalLM.from_pretrained("hub"), load_model("hub")[0]):
        assert torch.equal(model(input_ids=tokens).logits, ours.network.model(input_ids=tokens).logits)


def test_what_cannot_be_exported_is_said_in_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnx" else found(name))
    quick = ["--steps", "256", "--hidden", "8", "--evaluation-episodes", "2"]
    assert main(["train", "ppo", "--env", "CartPole-v1", *quick, "--run", "pole"]) == 0
    assert main(["train", "q-learning", "--env", "FrozenLake-v1", "--steps", "100", "--run", "lake"]) == 0
    Path("taken.onnx").touch()
    capsys.readouterr()
    for arguments, expected in (
        (["export"], "which run?"),
        (["export", "pol"], "did you mean pole?"),
        (["export", "pole"], "pip install gridzero[onnx]"),
        (["export", "pole", "--output", "taken.onnx"], "taken.onnx exists"),
        (["export", "pole", "--output", "none/x.onnx"], "no folder none"),
        (["export", "pole", "--output", "taken.onnx/x.onnx"], "taken.onnx is a file where a folder is needed"),
        (["export", "pole", "--output", "pole.zip"], "ppo is exported to .onnx, not .zip"),
        (["export", "lake"], "q-learning has no format"),
    ):
        assert main(arguments) == 2
        message = capsys.readouterr().err
        assert expected in message
        assert message.count("\n") == 1
