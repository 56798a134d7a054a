"""GRPO by TRL: what settings become, what is refused, and, with TRL, that the gradients are those of our own."""

import dataclasses
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch

import gridzero  # noqa: F401  (registers the environments)
from gridzero.__main__ import main
from gridzero.agents.neural.batches import Rollout, Steps
from gridzero.agents.neural.grpo import GRPO, VARIANTS, GRPOConfig
from gridzero.envs.tasks import Vocabulary, make_task
from gridzero.llm_rl.integrations.trl_engine import TRLGRPO, trl_settings
from gridzero.llm_rl.models.causal import tiny_model
from gridzero.llm_rl.models.pretrained import load_model, save_model
from gridzero.llm_rl.models.tokenizer import character_tokenizer

with_trl = pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="TRL is not installed")
ENV = "gridzero/TextGeneration-v0"
PLAIN: dict[str, Any] = {"gamma": 1.0, "credit": "outcome", "entropy_coefficient": 0.0, "episode_limit": 20}


def config(variant: str | None = None, **fields: Any) -> GRPOConfig:
    chosen = dict(VARIANTS[variant]) if variant else {}
    return GRPOConfig(**{**PLAIN, **chosen, "resampling": 0, **fields})


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("grpo", {"loss_type": "grpo", "scale_rewards": "group", "importance_sampling_level": "token"}),
        ("dr_grpo", {"loss_type": "dr_grpo", "scale_rewards": "none", "max_completion_length": 20}),
        ("dapo", {"loss_type": "dapo", "epsilon": 0.2, "epsilon_high": 0.28}),
        ("gspo", {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4}),
        ("cispo", {"loss_type": "cispo", "epsilon_high": 2.0}),
    ],
)
def test_variants_become_those_of_trl(variant: str, expected: dict[str, Any]) -> None:
    found = trl_settings(config(variant))
    assert {name: found[name] for name in expected} == expected


def test_an_update_is_cut_into_equal_parts() -> None:
    settings = trl_settings(config(groups=32, group_size=16, episode_limit=71, minibatch_size=4096, epochs=2))
    assert settings["per_device_train_batch_size"] == 64  # 8 parts: 512 · 71 / 4096 = 8.9
    assert settings["steps_per_generation"] == 8
    assert settings["logging_steps"] == 16
    assert trl_settings(config(groups=4, minibatch_size=10**6))["steps_per_generation"] == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"gamma": 0.9},
        {"credit": "to-go"},
        {"resampling": 3},
        {"clip_schedule": "linear"},
        {"schedule_steps": 100},
        {"entropy_coefficient": 0.1, "entropy_schedule": "linear"},
        {"kl_coefficient": 0.1, "kl_estimator": "k1"},
        {"kl_coefficient": 0.1, "kl_in_reward": True},
        {"surrogate": "trajectory", "normalisation": "sequence"},
        {"kl_coefficient": 0.1, "skip_flat_groups": True},
        {"surrogate": "sequence", "normalisation": "token"},
        {"surrogate": "truncated", "normalisation": "sequence"},
    ],
)
def test_what_trl_lacks_is_refused_by_name(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"TRL has no --.*; with trl-grpo give --"):
        trl_settings(config(**fields))


def command(*words: str) -> int:
    return main(["train", "trl-grpo", *words])


def test_without_trl_a_line_says_what_to_install(monkeypatch: Any, tmp_path: Path, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "trl", None)
    assert command("--env", ENV) == 2
    assert "pip install 'gridzero[trl]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_other_environments_are_refused(monkeypatch: Any, tmp_path: Path, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("--env", "gridzero/GridWorld-v0") == 2
    assert "TRL trains on gridzero/TextGeneration-v0" in capsys.readouterr().err


# With TRL


@pytest.fixture(scope="module")
def model(tmp_path_factory: Any) -> Path:
    """A tiny model of random weights, which sometimes ends in time."""
    vocabulary = Vocabulary.for_task(make_task("addition", digits=1))
    folder: Path = tmp_path_factory.mktemp("models") / "tiny"
    found = tiny_model(len(vocabulary), width=16, layers=2, heads=2, positions=64, seed=1)
    save_model(found, character_tokenizer(vocabulary), folder)
    return folder


def world() -> Any:
    return gym.make(ENV, task="addition", digits=1)


@with_trl
@pytest.mark.parametrize("variant", ["dr_grpo", "grpo", "dapo", "gspo", "cispo"])
def test_gradients_are_those_of_our_grpo(variant: str, model: Path, monkeypatch: Any) -> None:
    """One update by TRL, and ours on the same completions with the same rewards: norms of the gradients."""
    given = config(variant, groups=2, group_size=4, max_gradient_norm=0.0, overlong_margin=0.0)
    given = dataclasses.replace(given, policy={"model": str(model)}, learning_rate=1e-9)
    agent = TRLGRPO(world(), given)
    seen: dict[str, Any] = {}

    def reward(prompts: Any, completions: Any, problem: Any, completion_ids: Any, **_: Any) -> list[float]:
        rewards = [float(i % 3 == 0) + 0.1 * i for i in range(len(prompts))]
        seen.update(prompts=prompts, ids=completion_ids, rewards=rewards)
        return [agent._scorer._factor * value for value in rewards]

    monkeypatch.setattr(type(agent._scorer), "__call__", lambda self, *a, **k: reward(*a, **k))
    agent.planned_steps = 8
    theirs = next(iter(list(agent.learn()))).metrics

    ours: Any = GRPO(world(), given)
    prompts = [ours.network.encode(prompt) for prompt in seen["prompts"]]
    width = max(map(len, seen["ids"]))
    mask = torch.arange(width) < torch.tensor([[len(ids)] for ids in seen["ids"]])
    rewards = torch.zeros(8, width)
    rewards[torch.arange(8), mask.sum(dim=1) - 1] = torch.tensor(seen["rewards"])
    steps = Steps(
        {"prompts": torch.tensor(prompts), "prompt_lengths": torch.tensor([len(ids) for ids in prompts])},
        torch.tensor([ids + [0] * (width - len(ids)) for ids in seen["ids"]]),
        mask,
        torch.zeros_like(mask),
        torch.zeros(8, 0),
    )
    with torch.no_grad():
        log_probs = ours.network.evaluate_actions(steps).log_probs
    rollout = Rollout(steps, log_probs, rewards, rewards > 0, rewards > 0, torch.ones(8))
    found = ours._update(rollout, ours._advantages(rollout))
    # TRL's standard deviation is that of a sample.
    factor = (3 / 4) ** 0.5 if given.baseline == "standardised" else 1.0
    assert theirs["gradient_norm"] == pytest.approx(factor * found["gradient_norm"], rel=2e-3)
    assert theirs["entropy"] == pytest.approx(found["entropy"], rel=1e-4)


@with_trl
def test_the_command_leaves_a_run_like_any_other(model: Path, monkeypatch: Any, tmp_path: Path, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--env", ENV, "--env.digits", "1", "--policy.model", str(model), "--groups", "2", "--group-size", "4"]
    words += ["--entropy-coefficient", "0.1", "--entropy-schedule", "constant"]  # lest nothing is learnt from no reward
    assert main(["train", "trl-grpo", *words, "--steps", "24", "--run", "by-trl", "--evaluation-episodes", "20"]) == 0
    assert "success rate" in capsys.readouterr().out
    run = tmp_path / "runs" / "by-trl"
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in metrics] == [8, 16, 24]
    assert all(0 <= row["accuracy"] <= 1 and row["completion_length"] > 0 for row in metrics)
    assert json.loads((run / "config.json").read_text())["agent"] == "trl-grpo"
    before, _ = load_model(model)
    after, _ = load_model(run / "checkpoints" / "24" / "model")
    assert not all(torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True))
    assert main(["evaluate", "by-trl", "--episodes", "10"]) == 0
    assert main(["train", "--run", "by-trl", "--resume"]) == 2
    assert "cannot be resumed" in capsys.readouterr().err


@with_trl
def test_completions_that_were_cut_off_are_paid_as_in_our_training(model: Path) -> None:
    """Plain completions of random tokens: form is paid where one has ended, at an end token or the end of a line."""
    given = config(groups=2, group_size=16, episode_limit=8)
    given = dataclasses.replace(given, policy={"model": str(model), "stop": "line"})
    agent = TRLGRPO(gym.make(ENV, task="addition", digits=1, template="plain", rewards="form"), given)
    agent.planned_steps = 32
    [update] = agent.learn()
    assert 0 < update.metrics["truncations"] < 1
    assert update.metrics["form"] <= 1 - update.metrics["truncations"]
    assert update.metrics["form"] > 0


@with_trl
def test_with_adapters_and_a_reference(model: Path) -> None:
    given = config(groups=2, group_size=4, kl_coefficient=0.1)
    for policy, more in (({"peft": "lora", "peft_rank": 2}, {}), ({}, {"reference_updates": 1})):
        agent = TRLGRPO(world(), dataclasses.replace(given, policy={"model": str(model), **policy}, **more))
        agent.planned_steps = 16
        updates = list(agent.learn())
        assert [update.step for update in updates] == [8, 16]
        assert updates[0].metrics["kl_to_reference"] == pytest.approx(0.0, abs=1e-5)


def test_bottlenecks_are_refused_before_training(model: Path) -> None:
    given = dataclasses.replace(config(), policy={"model": str(model), "peft": "bottleneck"})
    with pytest.raises(ValueError, match="which has no bottlenecks; --policy"):
        TRLGRPO(world(), given).setup()


@with_trl
def test_it_stops_when_it_is_told_to(model: Path) -> None:
    agent = TRLGRPO(world(), dataclasses.replace(config(groups=2, group_size=4), policy={"model": str(model)}))
    agent.planned_steps = 8 * 10**6
    learning = agent.learn()
    next(learning)
    learning.close()
    assert agent.steps == 8
