from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

import gridzero.envs  # noqa: F401  # registers the worlds
from gridzero.agents import interaction as module
from gridzero.agents.interaction import Episode, Interaction

MODES = list(AutoresetMode)


class Count(gym.Env[int, int]):
    """Counts its steps; ends at ``end``, is cut off at ``limit``; pays the action."""

    observation_space = gym.spaces.Discrete(1000)
    action_space = gym.spaces.Discrete(10)

    def __init__(self, end: int = 1000, limit: int = 1000) -> None:
        self.end, self.limit = end, limit

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.count = 0
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        self.count += 1
        ended = self.count == self.end
        return self.count, float(action), ended, self.count == self.limit, {"is_success": ended}


class Draws(Count):
    """Its observations are drawn, so that only the right stream gives the right ones; ends at random."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        return int(self.np_random.integers(1000)), {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        observation = (int(self.np_random.integers(1000)) + action) % 1000
        return observation, 1.0, bool(self.np_random.random() < 0.1), False, {}


def counters(mode: AutoresetMode) -> SyncVectorEnv:
    return SyncVectorEnv([lambda: Count(end=3), lambda: Count(limit=4)], autoreset_mode=mode)


def test_a_single_environment_is_a_batch_of_one() -> None:
    interaction = Interaction(Count(end=3), seed=0)
    interaction.start()
    assert interaction.observations == [0]
    seen = []
    for _ in range(4):
        transition = interaction.step([2])
        flags = (transition.terminated[0], transition.truncated[0], transition.valid[0])
        seen.append((transition.next_observations[0], interaction.observations[0], transition.rewards[0], *flags))
    assert seen == [
        (1, 1, 2.0, False, False, True),
        (2, 2, 2.0, False, False, True),
        (3, 0, 2.0, True, False, True),
        (1, 1, 2.0, False, False, True),
    ]
    assert (interaction.steps, interaction.episodes) == (4, 1)
    assert interaction.finished() == [Episode(6.0, 3, True)]
    assert interaction.finished() == []


@pytest.mark.parametrize("mode", MODES)
def test_successors_are_true_in_all_modes(mode: AutoresetMode) -> None:
    """In each environment the valid transitions run 0→1→2→3 | 0→1…, ended by termination, or cut off after 4."""
    interaction = Interaction(counters(mode), seed=0)
    interaction.start()
    seen: list[list[tuple[int, int, bool, bool]]] = [[], []]
    for _ in range(20):
        before = np.array(interaction.observations)
        transition = interaction.step(np.array([1, 2]))
        for i in np.flatnonzero(transition.valid):
            flags = (bool(transition.terminated[i]), bool(transition.truncated[i]))
            seen[i].append((int(before[i]), int(transition.next_observations[i]), *flags))
    for i, (length, terminates) in enumerate([(3, True), (4, False)]):
        cycle = [(k, k + 1, terminates and k + 1 == length, not terminates and k + 1 == length) for k in range(length)]
        assert seen[i] == [cycle[k % length] for k in range(len(seen[i]))]
        assert len(seen[i]) >= 15
    assert interaction.steps == len(seen[0]) + len(seen[1])
    assert interaction.episodes == sum(flags[2] or flags[3] for part in seen for flags in part)


@pytest.mark.parametrize("mode", MODES)
def test_episodes_are_counted_alike_in_all_modes(mode: AutoresetMode) -> None:
    interaction = Interaction(counters(mode), seed=0)
    interaction.start()
    while interaction.episodes < 9:
        interaction.step(np.array([1, 2]))
    episodes = interaction.finished()
    assert set(episodes) == {Episode(3.0, 3, True), Episode(8.0, 4, False)}


def test_metrics_are_means_since_the_last_time() -> None:
    interaction = Interaction(counters(AutoresetMode.DISABLED), seed=0)
    interaction.start()
    assert interaction.metrics() == {}
    for _ in range(4):
        interaction.step(np.array([1, 2]))
    means = {"episode_return": 5.5, "episode_length": 3.5, "success_rate": 0.5}
    assert interaction.metrics() == {**means, "episodes": 2.0}
    assert interaction.metrics() == {}


def test_success_is_unknown_where_the_environment_does_not_say() -> None:
    interaction = Interaction(Draws(), seed=0)
    interaction.start()
    while not interaction.episodes:
        interaction.step([0])
    assert interaction.finished()[0].success is None


def test_tuple_observations_have_their_last_ones_too() -> None:
    def make() -> gym.Env[Any, Any]:
        return gym.make("Blackjack-v1")

    seen = []
    for mode in MODES:
        interaction = Interaction(SyncVectorEnv([make, make], autoreset_mode=mode), seed=3)
        interaction.start()
        transition = interaction.step(np.array([0, 0]))  # stick: the hand is over
        assert transition.done.all()
        seen.append(np.array(transition.next_observations))
    np.testing.assert_array_equal(seen[0], seen[1])


def test_texts_have_their_last_ones_too() -> None:
    seen = []
    for mode in MODES:
        envs = gym.make_vec("gridzero/TextGeneration-v0", num_envs=2, task="addition", autoreset_mode=mode)
        interaction = Interaction(envs, seed=3)
        interaction.start()
        transition = interaction.step(("<answer>1</answer>", "nothing"))
        assert transition.done.all()
        assert transition.next_observations[1].endswith("nothing")
        seen.append(transition.next_observations)
    assert seen[0] == seen[1] == seen[2]


def test_the_same_seed_gives_the_same_episodes_and_another_seed_others() -> None:
    def observations(seed: int) -> list[int]:
        interaction = Interaction(Draws(), seed)
        interaction.start()
        return [interaction.step([0]).next_observations[0] for _ in range(600)]

    assert observations(1) == observations(1) != observations(2)


def test_environments_of_a_vector_draw_apart() -> None:
    interaction = Interaction(SyncVectorEnv([Draws] * 8, autoreset_mode=AutoresetMode.DISABLED), seed=0)
    interaction.start()
    assert len(set(interaction.observations.tolist())) > 6


def trace(interaction: Interaction, steps: int, seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    seen = []
    for _ in range(steps):
        actions = rng.integers(2, size=interaction.num_envs)
        transition = interaction.step(actions)
        observations = [np.array(batch).tolist() for batch in (transition.next_observations, interaction.observations)]
        seen.append([observations, transition.rewards.tolist(), transition.done.tolist(), transition.valid.tolist()])
    return [*seen, interaction.steps, interaction.episodes, interaction.finished()]


def frozen_lake() -> gym.Env[Any, Any]:
    return gym.make("FrozenLake-v1")


ENVIRONMENTS = {
    "FrozenLake": frozen_lake,
    "Blackjack": lambda: gym.make("Blackjack-v1"),
    "CartPole": lambda: gym.make("CartPole-v1"),
    "GridWorld": lambda: gym.make("gridzero/GridWorld-v0", layout="frozen-lake-8x8"),
    "wrapped": lambda: gym.wrappers.TimeLimit(gym.wrappers.TimeAwareObservation(gym.make("CartPole-v1")), 13),
    "never ending": lambda: Count(),
    "drawn": Draws,
    "foreign vector": lambda: SyncVectorEnv([Draws] * 5, autoreset_mode=AutoresetMode.DISABLED),
    "foreign vector of lakes": lambda: SyncVectorEnv([frozen_lake] * 3, autoreset_mode=AutoresetMode.DISABLED),
} | {
    f"native vector, {mode.name}": lambda mode=mode: gym.make_vec(
        "gridzero/GridWorld-v0",
        4,
        vectorization_mode="vector_entry_point",
        layout="frozen-lake-4x4",
        autoreset_mode=mode,
    )
    for mode in MODES
}


@pytest.mark.parametrize("steps", [0, 1, 7, 300, 900])
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_restoring_goes_on_exactly(name: str, steps: int) -> None:
    make: Any = ENVIRONMENTS[name]
    original = Interaction(make(), seed=5)
    original.start()
    trace(original, steps, seed=steps)
    state = original.state_dict()
    restored = Interaction(make(), seed=5)
    restored.load_state_dict(state)
    assert restored.restored
    np.testing.assert_equal(np.array(restored.observations), np.array(original.observations))
    # Long enough for new seeds to be due in both.
    assert trace(restored, 600, seed=1) == trace(original, 600, seed=1)


def test_restoring_an_asynchronous_vector() -> None:
    def make() -> AsyncVectorEnv:
        return AsyncVectorEnv([Draws] * 2, autoreset_mode=AutoresetMode.DISABLED)

    original, restored = Interaction(make(), seed=5), Interaction(make(), seed=5)
    original.start()
    trace(original, 40, seed=0)
    restored.load_state_dict(original.state_dict())
    assert trace(restored, 40, seed=1) == trace(original, 40, seed=1)
    original.env.close()
    restored.env.close()


def test_restoring_before_the_start() -> None:
    restored = Interaction(Draws(), seed=5)
    restored.load_state_dict(Interaction(Draws(), seed=5).state_dict())
    assert not restored.started
    original = Interaction(Draws(), seed=5)
    for interaction in (original, restored):
        interaction.start()
    assert trace(restored, 50, seed=1) == trace(original, 50, seed=1)


def test_a_foreign_vector_that_resets_itself_begins_new_episodes() -> None:
    original = Interaction(counters(AutoresetMode.NEXT_STEP), seed=5)
    original.start()
    original.step(np.array([1, 1]))
    restored = Interaction(counters(AutoresetMode.NEXT_STEP), seed=5)
    restored.load_state_dict(original.state_dict())
    assert not restored.restored
    assert restored.observations.tolist() == [0, 0]
    assert restored.steps == 2


def test_what_a_restore_replays_stays_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHAPTER_STEPS", 50)
    interaction = Interaction(Count(end=20), seed=0)
    interaction.start()
    lengths = []
    for _ in range(500):
        interaction.step([0])
        lengths.append(len(interaction.state_dict()["actions"][0]))
    assert max(lengths) < 50 + 20


def test_another_number_of_environments_is_refused() -> None:
    state = Interaction(counters(AutoresetMode.DISABLED), seed=0).state_dict()
    with pytest.raises(ValueError, match="the state is of 2 environments, not of 1"):
        Interaction(Count(), seed=0).load_state_dict(state)
