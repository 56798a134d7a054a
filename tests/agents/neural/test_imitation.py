"""Imitation: the right examples, the optimum from every kind of observation, any expert, and exact resuming."""

from __future__ import annotations

import itertools
import json
from collections import deque
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import gridzero
from gridzero.__main__ import main
from gridzero.agents import checkpoint
from gridzero.agents.checkpoint import flatten, unflatten
from gridzero.agents.neural.choices import HEADS
from gridzero.agents.neural.configs.imitation import ImitationConfig
from gridzero.agents.neural.imitation import Imitation
from gridzero.agents.neural.networks.heads import MARGINS
from gridzero.envs import Layout

from .worlds import Clock, Identity

GRID = "gridzero/GridWorld-v0"


def make(env: Any, seed: int = 0, **fields: Any) -> Imitation:
    env = gym.make(env) if isinstance(env, str) else env
    agent = gridzero.agents.make("imitation", env, seed=seed, **fields)
    assert isinstance(agent, Imitation)
    return agent


def grid(layout: str, **options: Any) -> gym.Env[Any, Any]:
    return gym.make(GRID, layout=layout, **options)


def learn(agent: Imitation, updates: int) -> list[Any]:
    return list(itertools.islice(agent.learn(), updates))


class Rule:
    """An expert that follows a rule, as any object with ``env`` and ``act`` may."""

    def __init__(self, env: Any, rule: Any) -> None:
        self.env, self.rule = env, rule

    def act(self, observations: Any, *, explore: bool = False) -> Any:
        return self.rule(observations)


def distances(layout: Layout) -> dict[int, int]:
    """Steps from each cell to the target by breadth-first search, walls in the way."""
    blocked = np.array([tile.blocks for tile in layout.legend])[layout.cells]
    goal = np.array([tile.target for tile in layout.legend])[layout.cells]
    found = {int(state): 0 for state in np.flatnonzero(goal)}
    queue = deque(found)
    while queue:
        state = queue.popleft()
        for other in neighbours(state, layout):
            if not blocked.flat[other] and other not in found:
                found[other] = found[state] + 1
                queue.append(other)
    return found


def neighbours(state: int, layout: Layout) -> list[int]:
    """Where up, right, down and left lead, walls aside; the boundary holds."""
    row, column = divmod(state, layout.width)
    moves = ((row - 1, column), (row, column + 1), (row + 1, column), (row, column - 1))
    inside = [0 <= r < layout.height and 0 <= c < layout.width for r, c in moves]
    return [r * layout.width + c if ok else state for (r, c), ok in zip(moves, inside, strict=True)]


@pytest.mark.parametrize("layout", ["four-rooms", "maze:9x9:3"])
def test_every_shortest_way_is_right_and_no_other(layout: str) -> None:
    env = grid(layout, reward_boundary=0, slip=0.0)
    agent = make(env, gamma=0.9)
    agent.setup()
    shown = agent.demonstrations
    assert shown is not None
    assert shown.states is not None
    world = env.unwrapped.layout  # type: ignore[attr-defined]
    distance = distances(world)
    assert sorted(shown.states) == sorted(state for state in distance if distance[state] > 0)
    for state, right in zip(shown.states, shown.right.tolist(), strict=True):
        nearer = [distance.get(other, 10**6) < distance[state] for other in neighbours(int(state), world)]
        assert right == nearer
    assert (shown.right.sum(dim=1) > 1).any() == (layout == "four-rooms")


def test_states_out_of_reach_are_no_examples() -> None:
    agent = make(grid("S.G#..\n...#..\n...#.."))
    agent.setup()
    assert agent.demonstrations is not None
    assert agent.demonstrations.states is not None
    assert agent.demonstrations.states.tolist() == [0, 1, 6, 7, 8, 12, 13, 14]


def test_examples_of_episodes_are_what_the_expert_saw_and_did() -> None:
    env = gym.make("CartPole-v1")
    agent = make(env, demonstrations=700)
    rule = Rule(env, lambda seen: (np.asarray(seen)[:, 2] + np.asarray(seen)[:, 3] > 0).astype(np.int64))
    agent.imitate(rule)  # type: ignore[arg-type]
    agent.setup()
    shown = agent.demonstrations
    assert shown is not None
    seen = shown.observations["observation"].numpy()
    assert seen.shape == (700, 4)
    assert shown.right.int().argmax(dim=1).tolist() == rule.act(seen).tolist()
    assert (shown.right.sum(dim=1) == 1).all()
    # Environments side by side: each goes on from where it was, until its episode ends.
    n = agent.vector.num_envs
    followed = np.abs(seen[n : 2 * n, 0] - seen[:n, 0] - 0.02 * seen[:n, 1])
    assert followed.max() < 1e-6


def test_steps_that_only_reset_are_no_examples() -> None:
    env = gym.vector.SyncVectorEnv([lambda: Clock(length=3)] * 2, autoreset_mode=gym.vector.AutoresetMode.NEXT_STEP)
    agent = make(env, demonstrations=60)
    agent.imitate(Rule(env, lambda seen: np.zeros(len(seen), dtype=np.int64)))  # type: ignore[arg-type]
    agent.setup()
    assert agent.demonstrations is not None
    shown = agent.demonstrations.observations["observation"]
    assert sorted(set(shown.flatten().tolist())) == [0.0, 1.0, 2.0]  # never the last one, 3


@pytest.mark.parametrize("head", HEADS)
def test_every_head_finds_the_optimum(head: str) -> None:
    agent = make("FrozenLake-v1", head=head)
    updates = learn(agent, 6)
    result = gridzero.agents.evaluate(agent, episodes=1)
    assert result.value == pytest.approx(0.54202593, abs=1e-7)  # the published optimum for gamma 0.99
    assert updates[-1].metrics["accuracy"] == 1
    assert updates[-1].metrics["cosine_margin"] > updates[0].metrics["cosine_margin"]


@pytest.mark.parametrize("observation", ["index", "coordinates", "one_hot", "image"])
def test_the_optimum_from_every_kind_of_observation(observation: str) -> None:
    agent = make(grid("zhao-5x5", observation=observation), gamma=0.9)
    learn(agent, 15)
    values = agent.env.unwrapped.mdp.policy_values(agent.policy_table(), 0.9)
    expected = [5.8, 5.6, 6.2, 6.5, 5.8, 6.5, 7.2, 8.0, 7.2, 6.5]  # Zhao, figure 3.4a, the first two rows
    assert values[:10] == pytest.approx(expected, abs=0.051)


def test_actions_need_not_begin_at_zero() -> None:
    env = Identity("image", "discrete")  # actions from -1 to 4
    agent = make(env, demonstrations=300)
    agent.imitate(Rule(env, lambda seen: np.array([np.flatnonzero(o[1, :, 0])[0] - 1 for o in seen])))  # type: ignore[arg-type]
    learn(agent, 10)
    observations = [env.show(k) for k in range(6)]
    assert agent.act(observations).tolist() == [-1, 0, 1, 2, 3, 4]


def test_margins_are_what_they_are_for() -> None:
    """With the same seeds, the heads with a margin end with wider ones than the same head without."""
    found = {}
    for head in ("normface", "cosface", "arcface"):
        agents = [make(grid("zhao-5x5", observation="image"), seed=seed, head=head) for seed in range(2)]
        found[head] = np.array([learn(agent, 8)[-1].metrics["cosine_margin"] for agent in agents])
    for head in ("cosface", "arcface"):
        assert (found[head] > found["normface"]).all()
        assert found[head].min() > MARGINS[head] * (head == "cosface")


def test_measuring_by_hand() -> None:
    agent = make("FrozenLake-v1", head="cosface", scale=5.0)
    learn(agent, 1)
    states = np.array([0, 4, 14])
    right = np.array([[True, False, False, False], [False, True, True, False], [False, False, False, True]])
    measured = agent.measure(states, right)
    with torch.no_grad():
        features = agent.network.actor(agent.network.read(states)).numpy().astype(np.float64)
    weights = agent.head.weight.detach().numpy().astype(np.float64)
    for i in range(3):
        cosine = weights @ features[i] / np.linalg.norm(weights, axis=1) / np.linalg.norm(features[i])
        gap = cosine[right[i]].max() - cosine[~right[i]].max()
        assert measured["cosine_margin"][i] == pytest.approx(gap, abs=1e-5)
        assert measured["logit_margin"][i] == pytest.approx(5 * gap, abs=1e-4)
        assert measured["accuracy"][i] == (gap > 0)


def test_lambda_falls_with_the_gradient_steps_to_its_floor() -> None:
    agent = make("FrozenLake-v1", head="sphereface", annealing=100.0, annealing_rate=0.5, annealing_floor=2.0)
    assert agent.annealing() == 100
    agent.gradient_steps = 10
    assert agent.annealing() == pytest.approx(100 / 6)
    agent.gradient_steps = 10_000
    assert agent.annealing() == 2


def test_numbers_are_standardised_over_the_examples() -> None:
    env = gym.make("CartPole-v1")
    agent = make(env, demonstrations=500, normalise_observations=True)
    agent.imitate(Rule(env, lambda seen: np.zeros(len(seen), dtype=np.int64)))  # type: ignore[arg-type]
    agent.setup()
    assert agent.demonstrations is not None
    seen = agent.demonstrations.observations["observation"]
    read = agent.network.read(seen.numpy())["observation"]
    assert read.mean(dim=0).abs().max() < 1e-4
    assert (read.std(dim=0) - 1).abs().max() < 1e-2


def test_a_run_with_other_observations_is_imitated_where_states_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    expert = gridzero.agents.make("q-learning", grid("frozen-lake-4x4"), seed=1)
    gridzero.agents.train(expert, steps=5000, run="runs/expert", evaluation_episodes=1)
    agent = make(grid("frozen-lake-4x4", observation="image"), expert="expert")
    learn(agent, 6)
    assert agent.demonstrations is not None
    states = agent.demonstrations.states
    theirs = expert.policy_table()[states].argmax(axis=1)  # type: ignore[attr-defined]
    assert agent.policy_table()[states].argmax(axis=1).tolist() == theirs.tolist()


@pytest.mark.parametrize("updates", [0, 3])
def test_resumed_exactly_without_the_expert(updates: int) -> None:
    env = gym.make("CartPole-v1")
    original, restored = make(env, seed=5), make(env, seed=5)
    original.imitate(Rule(env, lambda seen: (np.asarray(seen)[:, 2] > 0).astype(np.int64)))  # type: ignore[arg-type]
    original.setup()
    learn(original, updates)
    tree, arrays = flatten(original.state_dict())
    restored.load_state_dict(unflatten(json.loads(json.dumps(tree)), arrays))
    assert learn(restored, 2) == learn(original, 2)
    one, other = flatten(restored.state_dict()), flatten(original.state_dict())
    assert one[0] == other[0]
    assert all((one[1][name] == other[1][name]).all() for name in other[1])


def test_a_checkpoint_of_counted_states_leaves_the_observations_out(tmp_path: Path) -> None:
    agent = make(grid("four-rooms", observation="image"))
    learn(agent, 2)
    checkpoint.save(agent, tmp_path / "saved")
    _, _, tensors = checkpoint.read(tmp_path / "saved")
    assert not any(name.startswith("demonstrations.observations") for name in tensors)
    loaded = checkpoint.load(tmp_path / "saved")
    assert isinstance(loaded, Imitation)
    assert learn(loaded, 2) == learn(agent, 2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"head": "arc"}, "head must be one of softmax, normface"),
        ({"activation": "gelu"}, "activation must be one of"),
        ({"head": "softmax", "margin": 0.1}, "softmax has no margin"),
        ({"head": "sphereface", "margin": 1.5}, "whole number"),
        ({"head": "sphereface", "margin": 0}, "whole number"),
        ({"head": "cosface", "margin": 2.0}, "less than 2"),
        ({"head": "arcface", "margin": -0.1}, "at least 0"),
        ({"scale": 0.0}, "scale must be above 0"),
        ({"annealing": -1.0}, "annealing must be at least 0"),
        ({"demonstrations": 0}, "demonstrations must be above 0"),
        ({"hidden": ()}, "hidden must have"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImitationConfig(**fields)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env", "CartPole-v1"], "expert takes a run too"),
        (["--env", "Pendulum-v1"], "Discrete actions"),
        (["--env", "FrozenLake-v1", "--expert", "nobody"], "expert takes 'optimal' or a run; there is no run 'nobody'"),
        (["--env", "FrozenLake-v1", "--demonstrations", "5"], "known in every state"),
        (["--env", "CartPole-v1", "--expert", "lake"], "the expert sees Discrete(16)"),
    ],
)
def test_mistakes_leave_nothing_behind(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    lake = gridzero.agents.make("q-learning", "FrozenLake-v1")
    gridzero.agents.train(lake, steps=100, run="runs/lake", evaluation_episodes=1)
    assert main(["train", "imitation", *arguments]) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert message in errors
    assert [entry.name for entry in Path("runs").iterdir()] == ["lake"]
