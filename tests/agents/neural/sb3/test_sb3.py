"""Stable-Baselines3's algorithms as agents, and our environments as its vectors."""

import copy
import warnings
from itertools import islice
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

import gridzero
from gridzero.agents import as_vec_env
from gridzero.agents.environments import make_environment
from gridzero.agents.interaction import Interaction
from gridzero.agents.neural.sb3 import agents as sb3
from gridzero.envs import FiniteMDP

MODES = [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED]


def grid(num_envs: int | None = None, **options: Any) -> Any:
    options = {"layout": "frozen-lake-4x4", "slip": 0.2, "max_episode_steps": 15} | options
    if num_envs is None:
        return gym.make("gridzero/GridWorld-v0", **options)
    return gym.make_vec("gridzero/GridWorld-v0", num_envs, vectorization_mode="vector_entry_point", **options)


def same(a: Any, b: Any) -> bool:
    """Whether two states are equal, bit for bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        return a.dtype == np.asarray(b).dtype and np.array_equal(a, b, equal_nan=True)
    return bool(a == b)


@pytest.mark.parametrize("mode", MODES)
def test_a_native_vector_steps_as_its_same_step_twin(mode: AutoresetMode) -> None:
    """Gymnasium's SAME_STEP mode is what SB3 means by a vector: the adapter adds and loses nothing, in any mode."""
    ours = as_vec_env(grid(7, autoreset_mode=mode), seed=5)
    twin = grid(7, autoreset_mode=AutoresetMode.SAME_STEP)
    observations = ours.reset()
    reset = Interaction(twin, seed=5)
    reset.reset()
    np.testing.assert_array_equal(observations, reset.observations)
    rng = np.random.default_rng(0)
    endings = 0
    for _ in range(200):
        actions = rng.integers(4, size=7)
        observations, rewards, done, infos = ours.step(actions)
        expected, paid, terminated, truncated, info = twin.step(actions)
        np.testing.assert_array_equal(observations, expected)
        np.testing.assert_array_equal(rewards, paid)
        np.testing.assert_array_equal(done, terminated | truncated)
        for i in range(7):
            final = info["final_info"] if done[i] else info
            assert infos[i]["is_success"] == final["is_success"][i]
            assert infos[i]["TimeLimit.truncated"] == (truncated[i] and not terminated[i])
            assert ("terminal_observation" in infos[i]) == done[i]
            if done[i]:
                assert infos[i]["terminal_observation"] == info["final_obs"][i]
        endings += done.sum()
    assert endings > 50


@pytest.mark.parametrize("kind", ["index", "coordinates", "one_hot", "window", "image"])
@pytest.mark.parametrize("native", [True, False])
def test_a_vector_steps_as_sb3s_own_over_single_environments(kind: str, native: bool) -> None:
    """Where nothing is random, SB3's DummyVecEnv must see the same, infos included."""
    options = {"slip": 0.0, "start": 0, "observation": kind}
    theirs = DummyVecEnv([lambda: grid(**options)] * 3)
    if native:
        ours = as_vec_env(grid(3, **options))
    else:
        ours = as_vec_env(gym.vector.SyncVectorEnv([lambda: grid(**options)] * 3))
    assert ours.observation_space == theirs.observation_space
    rng = np.random.default_rng(1)
    pairs = [(ours.reset(), theirs.reset())]
    for _ in range(60):
        actions = rng.integers(4, size=3)
        seen, rewards, done, infos = ours.step(actions)
        expected, paid, over, told = theirs.step(actions)
        pairs.append((seen, expected))
        assert rewards.dtype == paid.dtype
        assert rewards.tolist() == paid.tolist()
        assert done.tolist() == over.tolist()
        assert [sorted(info) for info in infos] == [sorted(info) for info in told]
        for info, other in zip(infos, told, strict=True):
            assert all(np.array_equal(info[key], other[key]) for key in other)
    for seen, expected in pairs:
        assert seen.dtype == expected.dtype
        np.testing.assert_array_equal(seen, expected)


def test_a_seed_decides_all_episodes() -> None:
    def play(env: Any, seed: int) -> list[Any]:
        env.seed(seed)
        seen = [env.reset().tolist()]
        return seen + [env.step(np.full(4, t % 4))[0].tolist() for t in range(40)]

    for make in (lambda: grid(4), lambda: gym.vector.SyncVectorEnv([grid] * 4)):
        env = as_vec_env(make())
        first = play(env, 3)
        assert play(env, 3) == first
        assert play(as_vec_env(make()), 3) == first
        assert play(env, 4) != first


def test_methods_and_attributes_reach_each_environment() -> None:
    native, foreign = grid(3), gym.vector.SyncVectorEnv([grid] * 3)
    for env in (as_vec_env(native), as_vec_env(foreign)):
        env.reset()
        masks = env.env_method("action_masks")
        expected = (
            native.unwrapped.action_masks() if env.env is native else [e.unwrapped.action_masks() for e in foreign.envs]
        )
        np.testing.assert_array_equal(masks, expected)
        assert len(env.env_method("action_masks", indices=[2])) == 1
        assert env.has_attr("action_masks")
        assert not env.has_attr("no_such_thing")
        assert [model.num_states for model in env.get_attr("mdp")] == [16, 16, 16]
        env.set_attr("note", 7)
        assert env.get_attr("note", indices=1) == [7]
        assert env.env_is_wrapped(Monitor) == [False] * 3
    single = as_vec_env(Monitor(grid()))
    assert single.env_is_wrapped(Monitor) == [True]
    with pytest.raises(ValueError, match="in all environments or in none"):
        as_vec_env(native).set_attr("note", 7, indices=0)


def test_sb3s_own_wrappers_and_algorithms_take_it() -> None:
    envs = VecMonitor(as_vec_env(grid(8, observation="one_hot")))
    model = A2C("MlpPolicy", VecNormalize(envs), seed=0).learn(400)
    assert model.num_timesteps == 400
    assert len(model.ep_info_buffer) > 10
    assert len(model.ep_success_buffer) == len(model.ep_info_buffer)


def test_dictionaries_pass_in_every_mode() -> None:
    class Pair(gym.ObservationWrapper):
        def __init__(self) -> None:
            super().__init__(grid(slip=0.0, start=0))
            self.observation_space = gym.spaces.Dict(
                {"cell": gym.spaces.Discrete(16), "twice": gym.spaces.Box(0, 32, (1,))}
            )

        def observation(self, observation: int) -> dict[str, Any]:
            return {"cell": observation, "twice": np.array([2 * observation], dtype=np.float32)}

    played = []
    for make in (
        lambda: DummyVecEnv([Pair] * 2),
        lambda: as_vec_env(gym.vector.SyncVectorEnv([Pair] * 2)),
        lambda: as_vec_env(gym.vector.SyncVectorEnv([Pair] * 2, autoreset_mode=AutoresetMode.SAME_STEP)),
    ):
        env = make()
        seen = [env.reset()]
        ends = []
        for t in range(40):
            observations, _, done, infos = env.step(np.array([t // 2 % 4, t % 4]))
            seen.append(observations)
            for i in np.flatnonzero(done):
                last = infos[i]["terminal_observation"]
                ends.append((t, int(i), int(last["cell"]), last["twice"].tolist()))
        played.append(([{key: part.tolist() for key, part in one.items()} for one in seen], ends))
    assert played[0] == played[1] == played[2]
    model = PPO("MultiInputPolicy", as_vec_env(Pair()), n_steps=32, batch_size=32, n_epochs=1)
    assert model.learn(32).num_timesteps == 32


def test_what_sb3_cannot_take_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="no networks for observations in a Text"):
        as_vec_env(grid(observation="text"))
    with pytest.raises(ValueError, match="numbered from 0"):
        as_vec_env(gym.wrappers.TransformAction(grid(), lambda a: a - 1, gym.spaces.Discrete(4, start=1)))
    with pytest.raises(ValueError, match="resets in the next step only"):
        as_vec_env(gym.make_vec("CartPole-v1", 2, vectorization_mode="vector_entry_point"))
    with pytest.raises(ValueError, match="reset without options"):
        as_vec_env(grid()).set_options({"x": 1})


# Environment, number of environments, fields. Small networks and buffers: what is tested is the going on.
RESUMED = {
    "ppo": ("CartPole-v1", None, {"n_steps": 128, "n_epochs": 2, "hidden": (8,)}),
    "ppo-native": ("gridzero/GridWorld-v0", 5, {"n_steps": 50, "batch_size": 50, "n_epochs": 2, "hidden": (8,)}),
    "ppo-foreign": ("CartPole-v1", 3, {"n_steps": 100, "batch_size": 50, "n_epochs": 2, "hidden": (8,)}),
    "a2c": ("FrozenLake-v1", None, {"n_steps": 50, "hidden": (8,)}),
    "dqn": ("CartPole-v1", None, {"buffer_size": 400, "target_update_interval": 100, "hidden": (8,)}),
    "dqn-native": ("gridzero/GridWorld-v0", 5, {"buffer_size": 9000, "n_steps": 3, "hidden": (8,)}),
    "sac": ("Pendulum-v1", None, {"learning_starts": 200, "train_freq": 8, "buffer_size": 600, "hidden": (8,)}),
    "td3": ("Pendulum-v1", 2, {"learning_starts": 200, "train_freq": 8, "action_noise": 0.2, "hidden": (8,)}),
    "qrdqn": ("gridzero/GridWorld-v0", None, {"buffer_size": 3000, "hidden": (8,), "n_steps": 1}),
    "maskableppo": ("gridzero/GridWorld-v0", 5, {"n_steps": 50, "batch_size": 50, "n_epochs": 2, "hidden": (8,)}),
    "recurrentppo": ("CartPole-v1", None, {"n_steps": 128, "n_epochs": 1, "hidden": (8,)}),
    "trpo": ("CartPole-v1", None, {"n_steps": 128, "hidden": (8,)}),
    "ars": ("CartPole-v1", None, {"n_delta": 2, "hidden": (8,)}),
}


@pytest.mark.parametrize("case", RESUMED)
def test_interrupted_and_resumed_equals_uninterrupted(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sb3, "UPDATE_STEPS", 250)
    name = f"sb3-{case.partition('-')[0]}"
    if name not in gridzero.agents.REGISTRY:
        pytest.importorskip("sb3_contrib")
    env_id, num_envs, fields = RESUMED[case]

    def make() -> Any:
        env = make_environment(env_id, {}, num_envs)
        return gridzero.agents.make(name, env, seed=3, **fields)

    whole = make()
    whole_updates = list(islice(whole.learn(), 3))
    first = make()
    list(islice(first.learn(), 2))
    gridzero.agents.save(first, tmp_path / "checkpoint")
    np.random.seed(99)  # noqa: NPY002 - the global generators must not matter
    torch.manual_seed(99)
    second = gridzero.agents.load(tmp_path / "checkpoint")
    assert next(second.learn()) == whole_updates[2]
    assert same(second.state_dict(), whole.state_dict())


@pytest.mark.parametrize("algorithm", [PPO, DQN])
def test_the_agent_does_what_the_bare_algorithm_does(algorithm: type[Any]) -> None:
    """Training in pieces, with generators of its own, ends with the very weights of SB3's one call."""
    fields = {"n_steps": 256, "n_epochs": 2} if algorithm is PPO else {"buffer_size": 1000, "exploration_fraction": 0.6}
    steps = 2048 if algorithm is PPO else 2000
    agent = gridzero.agents.make(f"sb3-{algorithm.__name__.lower()}", "CartPole-v1", schedule_steps=steps, **fields)
    assert next(update for update in agent.learn() if update.step >= steps).step == steps

    np.random.seed(agent.own_seed)  # noqa: NPY002 - SB3 draws from the global generators
    torch.manual_seed(agent.own_seed)
    bare = algorithm("MlpPolicy", as_vec_env(gym.make("CartPole-v1"), seed=agent.environment_seed), **fields)
    bare.action_space.seed(agent.own_seed)
    bare.learn(steps)
    trained = agent.model.get_parameters()["policy"]
    for key, weights in bare.get_parameters()["policy"].items():
        assert torch.equal(weights, trained[key]), key


def test_the_global_generators_are_left_alone() -> None:
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    before = np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    agent = gridzero.agents.make("sb3-dqn", grid(), learning_starts=10)
    next(agent.learn())
    agent.act([0], explore=True)
    assert same(list(before[0]), list(np.random.get_state()))  # noqa: NPY002
    assert torch.equal(before[1], torch.get_rng_state())


def test_dqn_learns_the_exact_values_of_a_small_world() -> None:
    """γ = 0.9 on Zhao's 3×3 world: each Q within 0.01 of value iteration's, the policy optimal in every state."""
    env = gym.make("gridzero/GridWorld-v0", layout="zhao-3x3", start="random", max_episode_steps=20)
    fields = {"learning_rate": 0.01, "linear_learning_rate": True, "schedule_steps": 10_000, "batch_size": 128}
    fields |= {"train_freq": 8, "target_update_interval": 100, "learning_starts": 200, "exploration_final_eps": 1.0}
    agent = gridzero.agents.make("sb3-dqn", env, gamma=0.9, hidden=(32,), **fields)
    next(update for update in agent.learn() if update.step >= 10_000)
    model = FiniteMDP.from_env(env)
    exact = gridzero.agents.solve(model, gamma=0.9, tolerance=1e-10)
    optimal = model.action_values(exact.values, 0.9)
    assert np.abs(agent.action_values() - optimal).max() < 0.01
    assert np.abs(agent.state_values() - exact.values).max() < 0.01
    values = model.policy_values(agent.policy_table(), 0.9)
    np.testing.assert_allclose(values, exact.values, atol=1e-9)
    epsilon = agent.exploring_policy_table()
    np.testing.assert_allclose(epsilon, 0.2)  # ε is 1 throughout


@pytest.mark.parametrize("kind", ["index", "coordinates", "one_hot", "window", "image"])
@pytest.mark.parametrize("num_envs", [None, 2])
def test_tables_are_what_the_network_says_of_each_state(kind: str, num_envs: int | None) -> None:
    """Also in a world with walls, and without disturbing the episode under way."""
    env = grid(num_envs, layout="four-rooms", observation=kind)
    agent = gridzero.agents.make("sb3-ppo", env, n_steps=64, n_epochs=1, seed=1)
    next(agent.learn())
    undisturbed = agent.interaction.state_dict()
    model = env.unwrapped.mdp
    probabilities, values, policy = agent.exploring_policy_table(), agent.state_values(), agent.policy_table()
    assert same(undisturbed, agent.interaction.state_dict())
    assert probabilities.shape == policy.shape == (model.num_states, model.num_actions)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    single = grid(layout="four-rooms", observation=kind).unwrapped
    single.reset(seed=0)
    for state in np.flatnonzero(~model.terminal)[::7].tolist():
        observation = single.set_state(state)
        tensor = agent.model.policy.obs_to_tensor(np.asarray(observation)[None])[0]
        with torch.no_grad():
            expected = agent.model.policy.get_distribution(tensor).distribution.probs[0].numpy()
            value = agent.model.policy.predict_values(tensor).item()
        np.testing.assert_allclose(probabilities[state], expected, atol=1e-6)
        assert values[state] == pytest.approx(value, abs=1e-5)
        assert policy[state].argmax() == agent.act([observation])[0]
        assert policy[state].argmax() == expected.argmax()


def test_tables_follow_an_edited_map() -> None:
    env = grid(layout="zhao-3x3", observation="image")
    agent = gridzero.agents.make("sb3-ppo", env, seed=1)
    before = agent.state_values()
    env.unwrapped.edit(1, 1, "#")
    assert not np.array_equal(before, agent.state_values())
    assert agent._states.read() is agent._states.read()


def test_the_exploration_schedule_spans_schedule_steps() -> None:
    agent = gridzero.agents.make(
        "sb3-dqn", grid(), schedule_steps=4000, exploration_fraction=0.5, learning_starts=10_000, hidden=(4,)
    )
    rates = [update.metrics["exploration_rate"] for update in islice(agent.learn(), 3)]
    assert rates == pytest.approx([1 - 0.95 / 2, 0.05, 0.05])


def test_the_learning_rate_falls_linearly() -> None:
    agent = gridzero.agents.make(
        "sb3-a2c", grid(), learning_rate=0.01, linear_learning_rate=True, schedule_steps=2000, n_steps=100
    )
    rates = [update.metrics["learning_rate"] for update in islice(agent.learn(), 3)]
    assert rates == pytest.approx([0.005, 0.0, 0.0])


def test_the_policy_is_chosen_by_the_observations() -> None:
    from stable_baselines3.common.torch_layers import NatureCNN

    class Screen(gym.ObservationWrapper):
        def __init__(self, side: int) -> None:
            super().__init__(grid())
            self.observation_space = gym.spaces.Box(0, 255, (side, side, 3), np.uint8)

        def observation(self, observation: int) -> Any:
            return np.full(self.observation_space.shape, observation, dtype=np.uint8)

    large = gridzero.agents.make("sb3-a2c", Screen(36))
    small = gridzero.agents.make("sb3-a2c", Screen(35))
    assert isinstance(large.model.policy.features_extractor, NatureCNN)
    assert not isinstance(small.model.policy.features_extractor, NatureCNN)
    assert large.act([large.env.reset()[0]]).shape == (1,)
    with pytest.raises(ValueError, match="MlpPolicy, CnnPolicy, MultiInputPolicy, not Tree"):
        gridzero.agents.make("sb3-a2c", grid(), policy="Tree")


def test_evaluation_takes_its_discrete_and_continuous_actions() -> None:
    result = gridzero.agents.train(
        gridzero.agents.make("sb3-ppo", grid(6), n_steps=32, n_epochs=1), steps=1000, evaluation_episodes=10
    )
    assert result.optimum is not None
    assert result.expected_return is not None
    agent = gridzero.agents.make("sb3-sac", "Pendulum-v1", learning_starts=2000, hidden=(4,))
    assert gridzero.agents.evaluate(agent, episodes=2).mean_length == 200


def test_a_state_of_other_networks_is_refused() -> None:
    small = gridzero.agents.make("sb3-ppo", grid(), hidden=(4,))
    large = gridzero.agents.make("sb3-ppo", grid(), hidden=(8,))
    with pytest.raises(ValueError, match="of another model"):
        small.load_state_dict(copy.deepcopy(large.state_dict()))


def test_bad_settings_are_refused_in_one_line() -> None:
    for name, env, fields, message in [
        ("sb3-sac", grid(), {}, "SAC: The algorithm only supports"),
        ("sb3-dqn", "Pendulum-v1", {}, "DQN: The algorithm only supports"),
        ("sb3-ppo", grid(observation="text"), {}, "no networks for observations"),
        ("sb3-ppo", FiniteMDP.from_env(grid()), {}, "learns from a Gymnasium environment"),
        ("sb3-ppo", grid(), {"hidden": ()}, "hidden must have"),
        ("sb3-ppo", grid(), {"gamma": 1.5}, "gamma must be"),
        ("sb3-ppo", grid(), {"schedule_steps": 0}, "schedule_steps must be"),
        ("sb3-td3", "Pendulum-v1", {"action_noise": -1.0}, "action_noise must be"),
        ("sb3-ppo", grid(), {"n_epoch": 3}, "did you mean n_epochs"),
    ]:
        with pytest.raises(ValueError, match=message) as error:
            gridzero.agents.make(name, env, **fields)
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 200


@pytest.mark.parametrize("algorithm", [A2C, DDPG, DQN, PPO, SAC, TD3])
def test_the_config_is_the_algorithms_own(algorithm: type[Any]) -> None:
    """It is read from the source; here, the imported class says the same."""
    import inspect

    config = gridzero.agents.agent_class(f"sb3-{algorithm.__name__.lower()}").Config()
    own = inspect.signature(algorithm.__init__).parameters
    same = [name for name, parameter in own.items() if getattr(config, name, "no setting") == parameter.default]
    assert {"learning_rate", "gamma", "device"} <= set(same)
    added = {"policy", "hidden", "linear_learning_rate", "schedule_steps", "action_noise"}
    assert set(vars(config)) - added <= set(same)
    assert not hasattr(config, "verbose")


def test_no_warnings_on_a_plain_run() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agent = gridzero.agents.make("sb3-ppo", grid(4), n_steps=64)
        assert next(agent.learn()).step > 0
