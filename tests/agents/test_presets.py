"""Presets: every one makes an agent's settings; the commands use, show and record them."""

from __future__ import annotations

import typing
from pathlib import Path

import gymnasium as gym
import pytest

from gridzero.__main__ import main
from gridzero.agents import REGISTRY, agent_class, make, runs
from gridzero.agents.files import fits
from gridzero.agents.neural.configs.grpo import VARIANTS
from gridzero.agents.presets import Preset, preset, presets
from gridzero.commands import sweep
from gridzero.commands.environment_words import EnvironmentWords
from gridzero.commands.settings import TrainingOptions, parse_settings

EVERY = [known for agent in REGISTRY for known in presets(agent).values()]
QUICK = ["--steps", "256", "--epochs", "1", "--hidden", "8", "--evaluation-episodes", "2"]


@pytest.mark.parametrize("known", EVERY, ids=lambda known: f"{known.agent}-{known.name}")
def test_each_makes_a_config(known: Preset) -> None:
    """Fields, their types and ranges are the agent's, the id is one of Gymnasium's or MiniGrid's."""
    config = agent_class(known.agent).Config
    hints = typing.get_type_hints(config)
    for name, value in known.fields.items():
        assert name in hints, f"{known.agent} {known.name} has an unknown key {name!r}"
        assert fits(list(value) if isinstance(value, tuple) else value, hints[name]), (name, value)
    config(**known.fields)
    assert isinstance(known.steps, int)
    assert known.steps > 0
    newer = {"Taxi-v4"}  # than the oldest Gymnasium that will do
    assert known.name in {*gym.registry, *newer} or known.name.startswith("MiniGrid-")


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_a_variant_of_grpo_sets_counts_before_the_preset(variant: str) -> None:
    words = ["--env", "FrozenLake-v1", "--variant", variant]
    config = parse_settings("train", "", TrainingOptions, "grpo", words, EnvironmentWords()).config
    fields = {**preset("grpo", "FrozenLake-v1").fields, **VARIANTS[variant], "variant": variant}
    assert "baseline" in preset("grpo", "FrozenLake-v1").fields
    assert config == agent_class("grpo").Config(**fields)


def test_a_run_uses_shows_and_records_its_preset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    train = ["train", "ppo", "--env", "CartPole-v1", *QUICK]
    fields = preset("ppo", "CartPole-v1").fields

    def trained(*words: str) -> tuple[dict[str, typing.Any], str]:
        assert main([*train, *words]) == 0
        return dict(runs.read_config(tmp_path / "runs" / words[-1])), capsys.readouterr().err

    record, shown = trained("--gamma", "0.9", "--run", "tuned")
    given = {"gamma": 0.9, "epochs": 1, "hidden": [8]}
    assert record["config"].items() >= {**fields, **given}.items()
    assert record["training"]["preset"] == "CartPole-v1"
    assert f"preset ppo CartPole-v1: num_envs {fields['num_envs']}" in shown
    assert "gamma" not in shown
    assert "epochs" not in shown

    record, shown = trained("--preset", "none", "--run", "bare")
    assert record["config"]["learning_rate"] == agent_class("ppo").Config().learning_rate != fields["learning_rate"]
    assert "preset" not in shown

    assert main(["train", "--run", "tuned", "--resume", "--steps", "512"]) == 0
    assert "preset" not in capsys.readouterr().err
    assert main(["train", "--run", "tuned", "--resume", "--preset", "none"]) == 2
    assert "begun with preset CartPole-v1" in capsys.readouterr().err


@pytest.mark.parametrize("flag", [["--normalise-observations"], ["--no-normalise-observations"], []])
def test_flags_may_say_what_the_preset_does(flag: list[str]) -> None:
    words = ["--env", "MountainCar-v0", *flag]
    config = parse_settings("train", "", TrainingOptions, "ppo", words, EnvironmentWords()).config
    assert config.normalise_observations is (flag != ["--no-normalise-observations"])


def test_a_sweep_varies_what_surrounds_the_preset() -> None:
    words = ["--env", "CartPole-v1", "--over", "gae_lambda=0.5,0.7", "--seeds", "1", "--epochs", "1"]
    settings = parse_settings("sweep", "", sweep.Options, "ppo", words, EnvironmentWords())
    environment = {"id": "CartPole-v1", "kwargs": {}}
    jobs = sweep.Sweep(Path("runs/all"), "ppo", environment, None, settings.config, settings.options).jobs
    fields = {**preset("ppo", "CartPole-v1").fields, "epochs": 1}
    for value, (job,) in zip((0.5, 0.7), jobs, strict=True):
        assert job.config == agent_class("ppo").Config(**{**fields, "gae_lambda": value})
        assert (job.options.preset, job.options.steps) == ("CartPole-v1", preset("ppo", "CartPole-v1").steps)


def test_in_python_nothing_is_tuned_that_nobody_asked_for() -> None:
    """The keywords of ``make`` and the defaults of ``Config`` are all there is."""
    bare = make("ppo", "CartPole-v1").config
    assert bare == agent_class("ppo").Config()
    tuned = make("ppo", "CartPole-v1", **preset("ppo", "CartPole-v1").fields).config
    assert tuned.num_envs == preset("ppo", "CartPole-v1").fields["num_envs"]
