"""Learners take two steps on tiny random image-text models of each family, and a restored one goes on exactly."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
import transformers

import gridzero.agents
from gridzero.__main__ import main
from gridzero.agents.checkpoint import flatten, unflatten
from gridzero.llm_rl.models.image_text import vision_parameters

SMALL: dict[str, dict[str, Any]] = {
    "sft": {"minibatch_size": 4, "gradient_steps": 1, "learning_rate": 1e-2},
    "grpo": {"groups": 2, "group_size": 3, "episode_limit": 4, "learning_rate": 1e-2, "kl_coefficient": 0.1},
}
SEEING = [
    "llava, clip",
    "llava, siglip",
    "smolvlm",
    "idefics3",
    "internvl",
    "lfm2-vl",
    "qwen2.5-vl",
    "qwen3-vl",
    "gemma3",
]
ADAPTERS: list[dict[str, Any]] = [
    {"peft": "lora", "peft_rank": 2},
    {"peft": "ia3"},
    {"peft": "bottleneck", "peft_rank": 2},
    {"peft": "prefix", "peft_tokens": 3},
    {"peft": "prompt", "peft_tokens": 3},
]


REFUSED = {
    ("qwen2.5-vl", "prefix"): "a qwen2_5_vl reads no learned prefix; --policy.peft lora, ia3 or bottleneck",
    ("qwen3-vl", "prefix"): "a qwen3_vl reads no learned prefix",
    ("gemma3", "prefix"): "a gemma3 reads no learned prefix",
    ("qwen2.5-vl", "prompt"): "a qwen2_5_vl reads no learned prompt",
    ("qwen3-vl", "prompt"): "a qwen3_vl reads no learned prompt",
    ("gemma3", "prompt"): "a gemma3 reads no learned prompt",
    ("lfm2-vl", "prefix"): "the layers of Lfm2ForCausalLM do not all keep keys and values of one shape",
}
CASES = [
    pytest.param(family, policy, marks=() if family == "qwen3-vl" and not policy else pytest.mark.slow)
    for family in SEEING
    for policy in ({}, *ADAPTERS)
    if (family, policy.get("peft")) not in REFUSED
]


def make(learner: str, model: str, **policy: Any) -> Any:
    rewards = "form=1,brevity=1"
    env = gym.make("gridzero/TextGeneration-v0", task="grid-path", height=2, width=3, pixels=8, rewards=rewards)
    return gridzero.agents.make(learner, env, seed=0, policy={"model": model, **policy}, **SMALL[learner])


def learn(agent: Any) -> list[Any]:
    return [
        {name: value for name, value in update.metrics.items() if name != "tokens_per_second"}
        for update in itertools.islice(agent.learn(), 2)
    ]


@pytest.mark.parametrize("learner", SMALL)
@pytest.mark.parametrize(("seeing", "policy"), CASES, indirect=["seeing"])
def test_it_learns_and_goes_on(learner: str, policy: dict[str, Any], seeing_folder: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    original, restored = (make(learner, seeing_folder, **policy) for _ in range(2))
    before = [weight.detach().clone() for weight in original.network.trained()]
    vision = {weight for weight in vision_parameters(original.network.whole) if weight.requires_grad}
    assert bool(vision) == (not policy)
    assert all(math.isfinite(value) for metrics in learn(original) for value in metrics.values())
    after = original.network.trained()
    changed = {new for old, new in zip(before, after, strict=True) if not torch.equal(old, new)}
    assert changed
    assert bool(changed & vision) == (not policy)
    tree, arrays = flatten(original.state_dict())
    original.save_artifacts(tmp_path / "run")
    restored.load_artifacts(tmp_path / "run")
    restored.load_state_dict(unflatten(json.loads(json.dumps(tree)), arrays))
    assert learn(restored) == learn(original)
    # What is saved is a model that others read, and where another run begins.
    original.save_artifacts(tmp_path / "next")
    saved = tmp_path / "next" / "model"
    if not policy:
        auto: Any = transformers.AutoModelForImageTextToText
        loaded = auto.from_pretrained(saved)
        for name, weight in original.network.whole.named_parameters():
            torch.testing.assert_close(loaded.get_parameter(name), weight, atol=0, rtol=0)
    begun = make(learner, str(saved)).network
    for old, new in zip(original.network.trained(), begun.trained(), strict=True):
        torch.testing.assert_close(old, new, atol=0, rtol=0)
    observation, _ = original.env.reset(seed=1)
    assert begun.act([observation], None, None)[0] == original.network.act([observation], None, None)[0]


@pytest.mark.parametrize(
    ("seeing", "kind"),
    [pytest.param(*case, marks=() if case[1] == "prefix" else pytest.mark.slow) for case in REFUSED],
    indirect=["seeing"],
)
def test_adapters_that_a_family_does_not_take_are_refused(
    kind: str, seeing_folder: str, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(ValueError, match=REFUSED[request.node.callspec.params["seeing"], kind]):
        make("grpo", seeing_folder, peft=kind)


@pytest.mark.slow
@pytest.mark.parametrize("seeing", ["gemma3"], indirect=True)
def test_from_the_command_line(
    seeing_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    env = ["--env", "gridzero/TextGeneration-v0", "--env.task", "grid-path", "--env.pixels", "8", "--env.height", "2"]
    env += ["--env.width", "3", "--evaluation-episodes", "2"]
    groups = ["--groups", "2", "--group-size", "2", "--episode-limit", "4"]
    assert main(["train", "grpo", *env, *groups, "--policy.model", seeing_folder, "--steps", "4", "--run", "seen"]) == 0
    assert main(["train", "--run", "seen", "--resume", "--steps", "8"]) == 0
    assert main(["train", "sft", *env, "--minibatch-size", "2", "--policy.model", "seen", "--steps", "20"]) == 0
    config = Path(seeing_folder, "config.json")
    config.write_text(config.read_text().replace('"gemma3"', '"paligemma"'))
    capsys.readouterr()
    assert main(["train", "grpo", *env, *groups, "--policy.model", seeing_folder, "--run", "no"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
