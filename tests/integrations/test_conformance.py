"""Each library's own checks of environments, passed by ours; skipped where the library is missing."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import gridzero

NUMERIC = ["index", "coordinates", "one_hot", "window", "image"]
KINDS = [*NUMERIC, "text"]


def grid(num_envs: int | None = None, **options: Any) -> Any:
    options = {"layout": "frozen-lake-4x4", "slip": 0.2, "max_episode_steps": 20} | options
    if num_envs is None:
        return gym.make("gridzero/GridWorld-v0", **options)
    return gym.make_vec("gridzero/GridWorld-v0", num_envs, vectorization_mode="vector_entry_point", **options)


@pytest.mark.parametrize("kind", NUMERIC)
def test_stable_baselines3_checks_the_environment(kind: str) -> None:
    from stable_baselines3.common.env_checker import check_env

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # A hint about networks, not about the environment: these images are small on purpose.
        warnings.filterwarnings("ignore", message="The minimal resolution for an image")
        check_env(grid(observation=kind))


def test_maskable_ppo_finds_the_masks_and_never_breaks_them() -> None:
    pytest.importorskip("sb3_contrib")
    from sb3_contrib import MaskablePPO
    from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported

    single, vec_env = grid(layout="four-rooms"), gridzero.agents.as_vec_env(grid(4, layout="four-rooms"))
    for env in (single, vec_env):
        assert is_masking_supported(env)
        env.reset()
    assert get_action_masks(single).tolist() == single.unwrapped.action_masks().tolist()
    assert get_action_masks(vec_env).tolist() == vec_env.env.unwrapped.action_masks().tolist()

    class Watched(gym.Wrapper[Any, Any, Any, Any]):
        broken = 0

        def step(self, action: Any) -> Any:
            Watched.broken += not self.unwrapped.action_masks()[action]  # type: ignore[attr-defined]
            return super().step(action)

    MaskablePPO("MlpPolicy", Watched(single), n_steps=128, batch_size=64, n_epochs=1, seed=0).learn(256)
    assert Watched.broken == 0


@pytest.mark.parametrize("categorical", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_torchrl_checks_one_environment(kind: str, categorical: bool) -> None:
    envs = pytest.importorskip("torchrl.envs")
    envs.check_env_specs(envs.GymWrapper(grid(observation=kind), categorical_action_encoding=categorical))


# SameStep: TorchRL itself does not get through with one-hot codes of a Discrete observation (nor on FrozenLake), nor
# with text.
SAME_STEP = [(kind, categorical) for kind in NUMERIC for categorical in (True, False) if categorical or kind != "index"]
CASES = [(kind, categorical, "Disabled") for kind in KINDS for categorical in (True, False)]


@pytest.mark.parametrize(("kind", "categorical", "mode"), [*CASES, *((*case, "SameStep") for case in SAME_STEP)])
def test_torchrl_checks_a_native_vector(kind: str, categorical: bool, mode: str) -> None:
    envs = pytest.importorskip("torchrl.envs")
    vector = grid(3, observation=kind, autoreset_mode=mode)
    envs.check_env_specs(envs.GymWrapper(vector, categorical_action_encoding=categorical))


TEXTS: list[tuple[str, dict[str, Any]]] = [
    ("gridzero/TextGeneration-v0", {"digits": 1}),
    ("gridzero/TextGeneration-v0", {"task": "grid-walk", "turns": 3, "rewards": "correct,brevity=0.1"}),
    ("gridzero/TokenGeneration-v0", {"digits": 1, "max_tokens": 3}),
    ("gridzero/TokenGeneration-v0", {"digits": 1, "max_tokens": 3, "rewards": "correct,brevity=0.1"}),
    ("gridzero/TokenGeneration-v0", {"digits": 1, "max_tokens": 2, "distinct": 5, "writable": "0123456789"}),
]


@pytest.mark.parametrize("categorical", [True, False])
@pytest.mark.parametrize(("name", "options"), TEXTS)
def test_torchrl_checks_one_text_environment(name: str, options: dict[str, Any], categorical: bool) -> None:
    envs = pytest.importorskip("torchrl.envs")
    for env in (
        envs.GymWrapper(gym.make(name, **options), categorical_action_encoding=categorical),
        envs.GymEnv(name, categorical_action_encoding=categorical, **options),
    ):
        envs.check_env_specs(env)
        ends = env.rollout(40, break_when_any_done=False)["next", "done"].sum()
        assert ends > 5


# TorchRL has one string for the actions of N environments (Gymnasium's own vectors of Text do not get through either),
# and in SAME_STEP mode no place for texts in final_info.
@pytest.mark.parametrize("categorical", [True, False])
@pytest.mark.parametrize(("name", "options"), [case for case in TEXTS if "Token" in case[0]])
def test_torchrl_checks_a_native_vector_of_tokens(name: str, options: dict[str, Any], categorical: bool) -> None:
    envs = pytest.importorskip("torchrl.envs")
    vector = gym.make_vec(name, 3, vectorization_mode="vector_entry_point", autoreset_mode="Disabled", **options)
    env = envs.GymWrapper(vector, categorical_action_encoding=categorical)
    envs.check_env_specs(env)
    assert env.rollout(20, break_when_any_done=False)["next", "done"].sum() > 5


def test_torchrl_resets_only_what_is_done() -> None:
    """Its rollouts of a native vector hold the true transitions: the successor is the model's, ends included."""
    envs = pytest.importorskip("torchrl.envs")
    vector = grid(5, slip=0.0, autoreset_mode="Disabled")
    env = envs.GymWrapper(vector, categorical_action_encoding=True)
    env.set_seed(0)
    rollout = env.rollout(200, break_when_any_done=False)
    model = vector.unwrapped.mdp
    states, actions = rollout["observation"].numpy(), rollout["action"].numpy()
    np.testing.assert_array_equal(rollout["next", "observation"].numpy(), model.successors[states, actions, 0])
    done = rollout["next", "done"].squeeze(-1)
    assert done.sum() > 20
    begins = rollout["observation"][:, 1:][done[:, :-1]]
    assert (begins == 0).all()


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
@pytest.mark.parametrize("kind", NUMERIC)
def test_skrl_recognises_a_native_vector(kind: str, mode: str) -> None:
    wrappers = pytest.importorskip("skrl.envs.wrappers.torch")
    vector, twin = (grid(3, observation=kind, autoreset_mode=mode) for _ in range(2))
    env = wrappers.wrap_env(vector, verbose=False)
    assert type(env).__name__ == "GymnasiumWrapper"
    assert env.num_envs == 3
    assert env.observation_space == vector.single_observation_space
    env._seed = 7
    seen, _ = env.reset()
    expected, _ = twin.reset(seed=7)
    rng = np.random.default_rng(0)
    for _ in range(40):
        actions = rng.integers(4, size=3)
        seen, rewards, terminated, _, _ = env.step(torch.as_tensor(actions)[:, None])
        expected, paid, ended, _, _ = twin.step(actions)
        assert rewards[:, 0].tolist() == paid.tolist()
        assert terminated[:, 0].tolist() == ended.tolist()
        np.testing.assert_array_equal(seen.numpy(), np.reshape(expected, (3, -1)))


@pytest.mark.parametrize("kind", NUMERIC)
def test_skrl_recognises_one_environment(kind: str) -> None:
    wrappers = pytest.importorskip("skrl.envs.wrappers.torch")
    env = wrappers.wrap_env(grid(observation=kind), verbose=False)
    assert env.num_envs == 1
    seen, _ = env.reset()
    assert seen.shape[0] == 1
    done = False
    while not done:
        _, reward, terminated, truncated, _ = env.step(torch.tensor([[2]]))
        done = bool(terminated | truncated)
    assert reward.shape == (1, 1)


@pytest.mark.parametrize("kind", NUMERIC)
def test_tianshou_collects_true_transitions(kind: str) -> None:
    pytest.importorskip("tianshou")
    from tianshou.algorithm.modelfree.dqn import DiscreteQLearningPolicy
    from tianshou.data import Collector, VectorReplayBuffer
    from tianshou.env import DummyVectorEnv

    envs = DummyVectorEnv([lambda: grid(observation=kind, slip=0.0)] * 4)
    envs.seed(0)
    buffer = VectorReplayBuffer(400, 4)
    policy = DiscreteQLearningPolicy(model=torch.nn.Identity(), action_space=gym.spaces.Discrete(4))
    collector = Collector(policy, envs, buffer)
    collector.reset()
    result = collector.collect(n_step=400, random=True)
    assert result.n_collected_steps == 400
    assert result.n_collected_episodes > 10
    assert len(buffer) == 400
    single = grid(observation=kind, slip=0.0).unwrapped
    model = single.mdp
    states = {np.asarray(single.set_state(s)).tobytes(): s for s in range(model.num_states)}
    before = [states[one.tobytes()] for one in buffer.obs]
    after = [states[one.tobytes()] for one in buffer.obs_next]
    assert after == model.successors[before, buffer.act, 0].tolist()
    np.testing.assert_allclose(buffer.rew, model.rewards[before, buffer.act])


@pytest.fixture(scope="module")
def local_ray() -> Iterator[Any]:
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.rllib")
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
        object_store_memory=100_000_000,
    )
    yield ray
    ray.shutdown()


@pytest.mark.parametrize("mode", ["sync", "vector_entry_point"])
def test_rllib_samples_whole_episodes(local_ray: Any, mode: str) -> None:
    """Both of its vector paths; what it samples are episodes of the model, from the start to a true end."""
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

    options = {"layout": "frozen-lake-4x4", "slip": 0.0, "max_episode_steps": 20, "observation": "one_hot"}
    config = (
        PPOConfig()
        .environment("gridzero:gridzero/GridWorld-v0", env_config=options)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=3, gym_env_vectorize_mode=mode)
        .debugging(seed=1)
    )
    runner = SingleAgentEnvRunner(config=config)
    model = grid(slip=0.0).unwrapped.mdp
    episodes = runner.sample(num_episodes=20, random_actions=True)
    assert len(episodes) >= 20
    for episode in episodes:
        states = np.argmax(episode.get_observations(), axis=1)
        actions = np.asarray(episode.get_actions())
        assert model.start[states[0]] > 0
        np.testing.assert_array_equal(states[1:], model.successors[states[:-1], actions, 0])
        np.testing.assert_allclose(episode.get_rewards(), model.rewards[states[:-1], actions])
        assert episode.is_terminated == bool(model.terminal[states[-1]])
        assert episode.is_truncated == (len(actions) == 20)  # also where the last step ends it: as TimeLimit has it
    runner.stop()


@pytest.mark.parametrize(("name", "options"), [TEXTS[0], TEXTS[2]])
def test_gymnasium_records_texts(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    """RecordVideo writes a film of every episode; the checker accepts the pictures."""
    pytest.importorskip("moviepy")
    from gymnasium.utils.env_checker import check_env
    from gymnasium.wrappers import RecordVideo

    check_env(gym.make(name, render_mode="rgb_array", **options).unwrapped)
    env = RecordVideo(
        gym.make(name, render_mode="rgb_array", **options),
        str(tmp_path),
        episode_trigger=lambda _: True,
        disable_logger=True,
    )
    for seed in range(2):
        env.reset(seed=seed)
        env.action_space.seed(seed)
        over = False
        while not over:
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            over = bool(terminated or truncated)
    env.close()
    films = sorted(tmp_path.glob("*.mp4"))
    assert len(films) == 2
    assert all(film.stat().st_size > 1000 for film in films)
