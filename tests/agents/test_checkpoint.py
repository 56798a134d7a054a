"""Checkpoints: what goes in comes out, bit for bit, and nothing that was tampered with comes out at all."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import gridzero
from gridzero.agents import checkpoint
from gridzero.agents.checkpoint import MANIFEST, STATE, TENSORS, flatten, load, save, unflatten

NOTICED = r"[^\n]* (is damaged|is incomplete|cannot be read|is not a|is none|has format|was written)[^\n]*"

arrays = hnp.arrays(
    dtype=st.sampled_from([np.bool_, np.int8, np.int32, np.int64, np.uint8, np.uint64, np.float32, np.float64]),
    shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
leaves = st.one_of(st.none(), st.booleans(), st.integers(-(2**130), 2**130), st.floats(), st.text(max_size=5), arrays)
keys = st.text(max_size=4).filter(lambda key: key != "$tensor")
trees = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=8
)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and (a == b or (a != a and b != b))


class Vessel(gridzero.agents.Agent):
    """An agent that is nothing but a state."""

    def __init__(self, state: Any) -> None:
        self.state = state

    def learn(self) -> Any: ...
    def act(self, observations: Any, *, explore: bool = False) -> Any: ...
    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state: Any) -> None: ...


def trained(steps: int = 3000) -> gridzero.agents.Agent:
    agent = gridzero.agents.make("q-learning", gym.make("FrozenLake-v1"), seed=3, gamma=0.95)
    for update in agent.learn():
        if update.step >= steps:
            return agent
    raise AssertionError


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(trained(), tmp_path_factory.mktemp("saved") / "1")


@given(trees)
def test_any_tree_survives_json_and_safetensors(tree: Any) -> None:
    flat, tensors = flatten(tree)
    from safetensors.numpy import load as load_tensors
    from safetensors.numpy import save as save_tensors

    back = unflatten(json.loads(json.dumps(flat)), load_tensors(save_tensors(tensors)))
    assert same(tree, back)


@pytest.mark.parametrize(
    "bad",
    [{"a": object()}, {"a": {1, 2}}, {1: 2}, {"$tensor": 1}, {"a": np.array([None])}, {"a": 1j}, {"a": b"bytes"}],
)
def test_what_json_and_safetensors_cannot_hold_is_refused(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"state|a is"):
        flatten(bad)


def test_the_same_agent_comes_back_and_learns_on_alike(saved: Path) -> None:
    agent, back = trained(), load(saved)
    assert (back.name, back.seed, back.config) == (agent.name, agent.seed, agent.config)
    assert same(unflatten(*flatten(back.state_dict())), unflatten(*flatten(agent.state_dict())))
    for mine, theirs, _ in zip(agent.learn(), back.learn(), range(3), strict=False):
        assert mine == theirs


def test_vector_environments_and_their_options_come_back(tmp_path: Path) -> None:
    env = gym.make_vec("gridzero/GridWorld-v0", num_envs=3, layout="cliff", slip=0.25, max_episode_steps=77)
    back = load(save(gridzero.agents.make("q-learning", env), tmp_path / "1")).env
    assert back.num_envs == 3
    single = checkpoint.describe(back)
    assert single == {
        "id": "gridzero/GridWorld-v0",
        "kwargs": {"layout": "cliff", "slip": 0.25, "max_episode_steps": 77},
        "num_envs": 3,
        "wrappers": [],
    }


@pytest.mark.parametrize("mode", list(gym.vector.AutoresetMode))
@pytest.mark.parametrize("env_id", ["gridzero/GridWorld-v0", "FrozenLake-v1"])
def test_vectors_reset_themselves_as_before(env_id: str, mode: gym.vector.AutoresetMode, tmp_path: Path) -> None:
    own = {"vector_kwargs": {"autoreset_mode": mode}} if env_id == "FrozenLake-v1" else {"autoreset_mode": mode}
    agent = gridzero.agents.make("q-learning", gym.make_vec(env_id, num_envs=2, **own))
    assert gridzero.agents.evaluate(agent, episodes=3).episodes == 3
    assert load(save(agent, tmp_path / "1")).env.metadata["autoreset_mode"] is mode


def test_a_map_from_a_file_is_kept_with_the_agent(tmp_path: Path) -> None:
    map_file = tmp_path / "map.txt"
    map_file.write_text("S..\n.#.\n..G\n")
    env = gym.make("gridzero/GridWorld-v0", layout=str(map_file))
    save(gridzero.agents.make("value-iteration", env), tmp_path / "1")
    map_file.unlink()
    back = load(tmp_path / "1").env.unwrapped
    assert back.layout.cells.tolist() == env.unwrapped.layout.cells.tolist()


def test_an_environment_that_cannot_be_described_must_be_given(tmp_path: Path) -> None:
    env = gym.wrappers.TransformReward(gym.make("FrozenLake-v1"), lambda reward: 2 * float(reward))
    save(gridzero.agents.make("q-learning", env), tmp_path / "1")
    with pytest.raises(ValueError, match="does not say how to make its environment"):
        load(tmp_path / "1")
    assert load(tmp_path / "1", env).env is env


def test_an_environment_of_another_size_is_refused(saved: Path) -> None:
    with pytest.raises(ValueError, match="the state has"):
        load(saved, gym.make("FrozenLake-v1", map_name="8x8"))


def test_nothing_is_overwritten(saved: Path) -> None:
    before = {file.name: file.read_bytes() for file in saved.iterdir()}
    with pytest.raises(ValueError, match="exists"):
        save(trained(1), saved)
    assert {file.name: file.read_bytes() for file in saved.iterdir()} == before


def test_a_failure_while_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter(range(100))

    def failing(handle: int) -> None:
        if next(calls) == 1:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match="No space"):
        save(trained(1), tmp_path / "1")
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_byte_is_noticed(saved: Path, tmp_path: Path, data: st.DataObject) -> None:
    folder = copy_of(saved, tmp_path)
    file = folder / data.draw(st.sampled_from([MANIFEST, STATE, TENSORS]))
    content = bytearray(file.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    assert re.fullmatch(NOTICED, refusal(folder))


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_missing_or_added_end_is_noticed(saved: Path, tmp_path: Path, data: st.DataObject) -> None:
    folder = copy_of(saved, tmp_path)
    file = folder / data.draw(st.sampled_from([MANIFEST, STATE, TENSORS]))
    content = file.read_bytes()
    length = data.draw(st.integers(0, len(content) + 5).filter(lambda n: n != len(content)))
    file.write_bytes(content[:length] + b" " * (length - len(content)))
    assert re.fullmatch(NOTICED, refusal(folder))


@pytest.mark.parametrize("name", [MANIFEST, STATE, TENSORS])
def test_a_missing_file_is_noticed(saved: Path, tmp_path: Path, name: str) -> None:
    folder = copy_of(saved, tmp_path)
    (folder / name).unlink()
    assert re.fullmatch(rf".*{name}.*(missing|cannot be read|No such file).*", refusal(folder))


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{}", b'{"format": "other"}', b"[" * 100_000, b"\x80\x04K."])
def test_a_foreign_manifest_is_refused(saved: Path, tmp_path: Path, content: bytes) -> None:
    folder = copy_of(saved, tmp_path)
    (folder / MANIFEST).write_bytes(content)
    assert re.fullmatch(NOTICED, refusal(folder))


def test_a_file_outside_of_the_checkpoint_is_never_opened(saved: Path, tmp_path: Path) -> None:
    """Reading ``/dev/zero`` for its checksum would never end; links inside the folder lead outside as well."""
    (tmp_path / "beside").write_text("private")
    for link in (None, "/dev/zero", tmp_path, tmp_path / "beside"):
        folder = copy_of(saved, tmp_path)
        if link is not None:
            (folder / "link").symlink_to(link)
        names = (
            ("/dev/zero", "../beside", "a/../../beside", ".", "", "./x") if link is None else ("link", "link/beside")
        )
        for name in names:
            manifest = checkpoint.read_manifest(folder)
            manifest["files"][name] = {"sha256": "0" * 64, "bytes": 7}
            (folder / MANIFEST).write_bytes(signed_again(manifest))
            assert "which is not a file of its own" in refusal(folder)


@pytest.mark.parametrize("name", [STATE, TENSORS])
def test_a_link_to_the_very_file_is_refused(saved: Path, tmp_path: Path, name: str) -> None:
    folder = copy_of(saved, tmp_path)
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    assert "which is not a file of its own" in refusal(folder)


class WithArtifacts(Vessel):
    """An agent with files in formats of their own."""

    name, config, env, seed = "vessel", gridzero.agents.agent_class("q-learning").Config(), None, 0

    def save_artifacts(self, folder: Path) -> None:
        (folder / "model" / "deep").mkdir(parents=True)
        (folder / "model" / "deep" / "weights.bin").write_bytes(b"abc")


def test_artifacts_are_in_the_manifest_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "describe", lambda env: None)
    save(WithArtifacts({}), tmp_path / "1")
    weights = tmp_path / "1" / "model" / "deep" / "weights.bin"
    assert checkpoint.read(tmp_path / "1")[0]["files"]["model/deep/weights.bin"]["bytes"] == 3
    for content in (b"abd", b"abcd", b""):
        weights.write_bytes(content)
        with pytest.raises(ValueError, match=r"is damaged: model/deep/weights\.bin"):
            checkpoint.read(tmp_path / "1")


def test_a_newer_format_is_refused(saved: Path, tmp_path: Path) -> None:
    folder = copy_of(saved, tmp_path)
    manifest = checkpoint.read_manifest(folder)
    (folder / MANIFEST).write_bytes(checkpoint.signed(manifest, checkpoint.FORMAT, checkpoint.VERSION + 1))
    with pytest.raises(ValueError, match="reads from 1 to"):
        load(folder)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("agent", "no-such-agent", "no agent is called"),
        ("config", {"gama": 1}, "did you mean gamma"),
        ("config", {"gamma": 7}, "gamma must be"),
        ("environment", {"id": "No-v0"}, "environment"),
    ],
)
def test_a_manifest_that_asks_for_what_is_not_there_is_refused(
    saved: Path, tmp_path: Path, field: str, value: Any, message: str
) -> None:
    folder = copy_of(saved, tmp_path)
    manifest = checkpoint.read_manifest(folder)
    (folder / MANIFEST).write_bytes(signed_again({**manifest, field: value}))
    assert message in refusal(folder)


def test_nothing_is_imported_at_a_files_request(saved: Path, tmp_path: Path) -> None:
    """An id with a module's name makes gym.make import that module; from a file that would be running what it says."""
    (tmp_path / "evil_module.py").write_text("raise SystemExit('ran')")
    folder = copy_of(saved, tmp_path)
    manifest = checkpoint.read_manifest(folder)
    manifest["environment"]["id"] = "evil_module:FrozenLake-v1"
    (folder / MANIFEST).write_bytes(signed_again(manifest))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        assert "evil_module" in refusal(folder)
    assert "evil_module" not in sys.modules


def signed_again(manifest: dict[str, Any]) -> bytes:
    return checkpoint.signed(manifest, checkpoint.FORMAT, checkpoint.VERSION)


def copy_of(saved: Path, folder: Path) -> Path:
    target = folder / "copy"
    shutil.rmtree(target, ignore_errors=True)
    return Path(shutil.copytree(saved, target))


def refusal(folder: Path) -> str:
    """The message with which a checkpoint is refused, which is one line."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the message depends on the damage)
        load(folder)
    return str(caught.value)
