"""Environments, agents, tasks, layouts and wrappers of a module in the current folder, in every command."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from gridzero import agents
from gridzero.__main__ import main
from gridzero.agents import registry, runs
from gridzero.agents.environments import describe, make_environment, remake
from gridzero.envs import Layout, plugins, tasks
from gridzero.envs.grid.layouts import layout, named_maps

MODULE = """
import gymnasium as gym
import gridzero.envs.tasks
from gridzero.agents.tabular.temporal_difference import QLearning
from gridzero.envs.tasks.addition import Addition
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv

class Lake(FrozenLakeEnv):
    pass

class Agent(QLearning):
    pass

class Sum(Addition):
    name = "our-sum"

class Shift(gym.RewardWrapper):
    def __init__(self, env, by: float = 0.0):
        super().__init__(env)
        self.by = by

    def reward(self, reward):
        return float(reward) + self.by

gym.register("Ours/Lake-v0", entry_point="ours_module:Lake", max_episode_steps=50)
gridzero.agents.register("our-agent", "ours_module:Agent", "Q-learning of ours")
gridzero.envs.tasks.register("our-sum", "ours_module:Sum", "a sum of ours")
gridzero.envs.register_layout("our-map", "S..\\n..G\\n", "a map of ours")
"""
QUICK = ["--steps", "1000", "--evaluation-episodes", "2"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the module; what it registers is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ours_module.py").write_text(MODULE)
    (tmp_path / "broken_module.py").write_text("raise RuntimeError('not\\ntoday')\n")
    tables: list[dict[str, Any]] = [gym.registry, registry.REGISTRY, tasks.TASKS, named_maps.LIBRARY, layout.REGISTERED]
    before = [dict(table) for table in tables]
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    monkeypatch.setattr(plugins, "_imported", [])
    monkeypatch.setattr(plugins, "_typed", set())
    yield tmp_path
    forget()
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)


def forget() -> None:
    sys.modules.pop("ours_module", None)
    gym.registry.pop("Ours/Lake-v0", None)
    registry.REGISTRY.pop("our-agent", None)
    plugins._imported.clear()
    plugins._typed.clear()
    sys.path[:] = [entry for entry in sys.path if entry != str(Path.cwd())]


def test_a_run_of_a_typed_module_is_remembered_and_comes_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "ours_module:our-agent", "--env", "ours_module:Ours/Lake-v0", *QUICK, "--run", "a"]) == 0
    assert "gridzero watch a --import ours_module" in " ".join(capsys.readouterr().out.split())
    record = runs.read_config(Path("runs/a"))
    assert record["imports"] == ["ours_module"]
    assert (record["agent"], record["environment"]["id"]) == ("our-agent", "Ours/Lake-v0")
    for command in (["evaluate", "a", "--episodes", "2"], ["train", "--run", "a", "--resume", "--steps", "2000"]):
        forget()
        assert main(command) == 2  # a file alone runs nothing of the current folder
        assert capsys.readouterr().err == (
            "gridzero: ours_module is not installed; if the one in the current folder is meant, "
            "add --import ours_module\n"
        )
        forget()
        assert main([*command, "--import", "ours_module"]) == 0
        capsys.readouterr()


def test_what_a_wrapper_needs_is_in_the_command_that_shows_its_run(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--wrapper", "ours_module:Shift", "--run", "shifted"]
    assert main(["train", "q-learning", "--env", "FrozenLake-v1", *words, *QUICK]) == 0
    assert "gridzero watch shifted --import ours_module" in " ".join(capsys.readouterr().out.split())


def test_a_run_of_an_importable_module_comes_back_by_itself(here: Path) -> None:
    (here / "installed").mkdir()
    (here / "ours_module.py").rename(here / "installed" / "ours_module.py")
    sys.path.append(str(here / "installed"))
    assert main(["train", "ours_module:our-agent", "--env", "Ours/Lake-v0", *QUICK, "--run", "a"]) == 0
    assert plugins.import_flags() == ""
    forget()
    assert main(["evaluate", "a", "--episodes", "2"]) == 0


def test_names_after_a_module_in_python(here: Path) -> None:
    sys.path.append(str(here))
    assert isinstance(make_environment("ours_module:Ours/Lake-v0").unwrapped, gym.Env)
    assert agents.make("ours_module:our-agent", "ours_module:Ours/Lake-v0").name == "our-agent"
    assert tasks.make_task("ours_module:our-sum").name == "our-sum"
    assert Layout.load("ours_module:our-map").text().startswith("S..\n..G\n")
    assert Layout.load("our-map").name == "our-map"
    assert Layout.load("maze:5x5:0").name == "maze:5x5:0"  # a generator is not a module


CARTPOLE = ["train", "ppo", "--env", "CartPole-v1"]
SHIFT = ["--wrapper", "ours_module:Shift"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "nowhere:agent", "--env", "FrozenLake-v1"], "there is no module nowhere"),
        (["train", "ours_module:our-agnt", "--env", "FrozenLake-v1"], "did you mean our-agent"),
        (["train", "q-learning", "--env", "broken_module:X-v0"], "broken_module cannot be imported: RuntimeError"),
        (["list", "agents", "--import", "a b"], "not the dotted name of a module"),
        (["list", "agents", "--import", "../ours_module"], "not the dotted name of a module"),
        (["list", "agents", "--import"], "--import needs a value"),
        ([*CARTPOLE, "--wrapper", "ours_module:Sum"], "is not a gymnasium.Wrapper"),
        ([*CARTPOLE, "--wrapper", "Shift"], "must be module:name"),
        ([*CARTPOLE, "--wrapper", "ours_module:Shft"], "did you mean Shift"),
        ([*CARTPOLE, "--wrapper.by", "1"], "there is no --wrapper"),
        ([*CARTPOLE, *SHIFT, "--wrapper.b", "1"], "did you mean by"),
        ([*CARTPOLE, *SHIFT, "--wrapper.by", "x"], "takes a number"),
        ([*CARTPOLE, *SHIFT, *SHIFT, "--wrapper.by", "1"], "ambiguous"),
        (["play", "gridzero/GridWorld-v0", "--env.layout", "ours_module:our-mp"], "did you mean our-map"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert expected in errors
    assert not Path("runs").exists()


def test_wrappers_are_remembered_and_used_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    """Frozen Lake that pays 2 a step more: the return says whether the wrapper is on."""
    wrapped = ["--wrapper", "ours_module:Shift", "--wrapper.by", "2", "--env.max_episode_steps", "3"]
    assert main(["train", "q-learning", "--env", "FrozenLake-v1", *wrapped, *QUICK, "--run", "a"]) == 0
    environment = runs.read_config(Path("runs/a"))["environment"]
    assert environment["wrappers"] == [{"entry_point": "ours_module:Shift", "kwargs": {"by": 2.0}}]
    capsys.readouterr()
    for more in ([], ["--env.is_slippery", "False"]):
        assert main(["evaluate", "a", "--episodes", "5", "--json", *more]) == 0
        row = json.loads(capsys.readouterr().out)[0]
        assert row["mean"] >= 2 * row["mean_length"] > 0
    assert main(["train", "--run", "a", "--resume", "--steps", "2000", "--wrapper", "ours_module:Shift"]) == 2
    assert "cannot be changed" in capsys.readouterr().err
    assert main(["train", "--run", "a", "--resume", "--steps", "2000"]) == 0
    vector = [*wrapped, *QUICK, "--num-envs", "2"]
    assert main(["train", "ppo", "--env", "gridzero/GridWorld-v0", "--env.layout", "our-map", *vector]) == 0


def test_a_described_environment_is_made_again_with_its_wrappers() -> None:
    single = gym.wrappers.FlattenObservation(gym.wrappers.ClipReward(gym.make("CartPole-v1"), -1.0, 0.5))
    vector = make_environment("CartPole-v1", {}, 3, describe(single)["wrappers"])  # type: ignore[index]
    for env in (single, vector):
        described = describe(env)
        assert described is not None
        assert json.loads(json.dumps(described)) == described
        again: Any = remake(described, described["num_envs"])
        assert describe(again) == described
        again.reset(seed=0)
        _, reward, *_ = again.step(again.action_space.sample())
        assert np.all(reward == 0.5)


class Nameless(gym.Env[Any, Any]):
    """Never registered: walks to the right until it has taken four steps."""

    observation_space = gym.spaces.Discrete(5)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = 0
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        self.place += int(action)
        return self.place, -1.0, self.place == 4, False, {}


class Uncopied(Nameless):
    def __deepcopy__(self, memo: Any) -> Any:
        raise TypeError("a device cannot be copied")


def test_an_environment_that_nobody_registered_is_trained_and_evaluated() -> None:
    for env in (Nameless(), gym.wrappers.TransformReward(Nameless(), lambda r: r)):
        agent = agents.make("q-learning", env, seed=1)
        assert agents.train(agent, steps=4000, evaluation_episodes=3).mean == -4.0


def test_evaluation_that_will_not_be_possible_is_told_before_training(tmp_path: Path) -> None:
    agent = agents.make("q-learning", Uncopied())
    with pytest.raises(ValueError, match="can neither be made from its specification nor copied"):
        agents.train(agent, steps=10**9, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_sweep_of_a_module_in_the_current_folder_runs_nothing_else_of_it(here: Path) -> None:
    (here / "socket.py").write_text("open('executed', 'w').close()\n")
    (here / "sitecustomize.py").write_text("open('executed', 'w').close()\n")
    command = ["sweep", "ours_module:our-agent", "--env", "ours_module:Ours/Lake-v0", "--over", "gamma=0.9"]
    code = f"import sys; from gridzero.__main__ import main; sys.exit(main({[*command, *QUICK]!r} + ['--seeds', '1']))"
    result = subprocess.run([sys.executable, "-P", "-c", code], check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert not (here / "executed").exists()


def test_layouts_that_are_not_maps_or_take_a_name_of_ours_are_refused() -> None:
    from gridzero.envs import register_layout

    before = copy.copy(named_maps.LIBRARY)
    for name, text in (("zhao-2x2", "S.G\n"), ("maze", "S.G\n"), ("x", "?"), ("", "S.G\n")):
        with pytest.raises(ValueError, match=r"regist|not|symbol|line"):
            register_layout(name, text)
    assert before == named_maps.LIBRARY
