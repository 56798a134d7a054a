"""PPO and GRPO learn what can be known to be right, go on exactly after a restart, and refuse nonsense."""

from __future__ import annotations

import itertools

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

import gridzero.envs  # noqa: F401  # registers the worlds
from gridzero.agents import evaluate, make
from gridzero.agents.checkpoint import flatten, unflatten
from gridzero.agents.neural.objectives import kl_estimate
from gridzero.agents.neural.vectors import copies
from gridzero.agents.registry import agent_class
from gridzero.agents.training import Budget, training

from .worlds import ACTIONS, OBSERVATIONS, Bandit, Clock, Identity, Maskable, Recall, vector


def run(agent, steps):
    for update in agent.learn():
        if update.step >= steps:
            return update
    return None


def score(agent, env, episodes=4, explore=False):
    """Mean reward of a step, greedily."""
    rewards = []
    observations, _ = env.reset(seed=7)
    for _ in range(8 * episodes):
        masks = np.stack(env.call("action_masks")) if agent.config.action_masks else None
        observations, reward, terminated, truncated, _ = env.step(agent.act(observations, action_masks=masks))
        rewards.append(reward)
        done = terminated | truncated
        if hasattr(agent, "reset_memory"):
            agent.reset_memory(done)
        if done.any():
            observations, _ = env.reset(options={"reset_mask": done})
    return float(np.mean(rewards))


QUICK = {"rollout_steps": 32, "minibatch_size": 128, "epochs": 6, "learning_rate": 5e-3, "gamma": 0.5, "hidden": (32,)}


@pytest.mark.parametrize(
    ("observation", "action"), [(o, "discrete") for o in OBSERVATIONS] + [("box", a) for a in ACTIONS]
)
def test_ppo_says_what_it_sees(observation, action):
    env = vector(lambda: Identity(observation, action), 8)
    agent = make("ppo", env, seed=1, initial_log_std=-1.0, **QUICK)
    run(agent, 4_000)
    assert score(agent, env) > 0.95


@pytest.mark.parametrize("action", ACTIONS)
def test_grpo_says_what_it_sees(action):
    env = vector(lambda: Identity("discrete", action), 32)
    agent = make("grpo", env, seed=1, groups=4, learning_rate=1e-2, gamma=0.5, hidden=(32,), initial_log_std=-1.0)
    run(agent, 8_000)
    assert score(agent, env) > 0.95


@pytest.mark.parametrize("memory", ["none", "gru", "lstm"])
def test_only_a_memory_recalls(memory):
    env = vector(Recall, 16)
    agent = make("ppo", env, memory=memory, **QUICK | {"gamma": 1.0})
    run(agent, 5_000)
    right = 3 * score(agent, env, episodes=9)  # one step of three pays
    assert right == pytest.approx(1.0) if memory != "none" else right < 0.75


class MaskInInfo(Maskable):
    """Maskable, with its masks in the info, as Taxi has them."""

    action_masks = None

    def allowed(self):
        return (np.arange(6) % 2 == self.k % 2).astype(np.int8)

    def reset(self, *, seed=None, options=None):
        observation, _ = super().reset(seed=seed, options=options)
        return observation, {"action_mask": self.allowed()}

    def step(self, action):
        assert self.allowed()[action]
        reward = float(action == self.k)
        self.steps += 1
        self.k = int(self.np_random.integers(6))
        return np.int64(self.k), reward, False, self.steps == 8, {"action_mask": self.allowed()}


@pytest.mark.parametrize(("world", "copies"), [(Maskable, 8), (MaskInInfo, None)])
def test_masked_actions_are_never_taken(world, copies):
    """The world itself asserts that its moves are allowed, in training and in evaluation."""
    env = world() if copies is None else vector(world, copies)
    agent = make("ppo", env, action_masks=True, **QUICK)
    run(agent, 4_000)
    assert evaluate(agent, episodes=20).mean > 0.95 * 8
    with pytest.raises(ValueError, match="action masks of all states"):
        agent.exploring_policy_table()


def test_grpo_takes_only_allowed_actions():
    agent = make("grpo", vector(MaskInInfo, 32), groups=4, action_masks=True, hidden=(32,))
    run(agent, 1_000)
    assert evaluate(agent, episodes=20).mean > 8 / 3, "better than allowed actions at random, of which a third pays"


def test_masks_need_an_environment_that_has_them():
    agent = make("ppo", vector(Recall, 2), action_masks=True)
    with pytest.raises(ValueError, match="action_masks"):
        next(agent.learn())
    with pytest.raises(ValueError, match="action masks need"):
        make("ppo", vector(lambda: Identity("box", "box"), 2), action_masks=True)


@pytest.mark.parametrize(("cut", "values"), [(True, [10, 10, 10, 10, 10]), (False, [4.0951, 3.439, 2.71, 1.9, 1])])
def test_a_time_limit_is_not_a_terminal_state(cut, values):
    """1 a step and γ = 0.9: cut off after five steps a state is still worth 1 / (1 - γ) = 10; over, it is not."""
    agent = make("ppo", vector(lambda: Clock(5, cut), 8), gamma=0.9, rollout_steps=16, minibatch_size=128,
                 gae_lambda=0.9, learning_rate=1e-2, normalise_rewards=False)  # fmt: skip
    run(agent, 8_000)
    shown = {"observation": torch.arange(5.0).reshape(5, 1)}
    found = agent.network.values(shown, torch.zeros(5, 0)).numpy()
    np.testing.assert_allclose(found, values, atol=1.0)


def test_reward_scaling_divides_by_the_deviation_of_discounted_sums():
    env = vector(lambda: Clock(5), 4)
    agent = make("ppo", env, normalise_rewards=True, rollout_steps=7, gamma=0.9)
    sums, seen = np.zeros(4), []
    for _ in range(3):
        t = agent.collector.rollout(agent.network, 7, agent.rng)
        scaled = agent._scaled(t).numpy()
        for step in range(7):
            sums = 0.9 * sums + t.rewards[:, step].numpy()
            seen.extend(sums)
            sums = np.where(t.done[:, step], 0.0, sums)
        np.testing.assert_allclose(scaled, t.rewards.numpy() / np.std(seen), rtol=1e-5)


# GRPO


def test_grpo_finds_the_optimum_of_the_regularised_objective():
    """max E[r] - β KL(π ‖ π_ref) has the solution π ∝ π_ref exp(r/β)."""
    agent = make(
        "grpo", vector(Bandit, 256, AutoresetMode.NEXT_STEP), groups=1, group_size=256, baseline="leave-one-out",
        kl_coefficient=0.5, epochs=1, minibatch_size=256, learning_rate=0.02, hidden=(8,),
        learning_rate_schedule="linear", schedule_steps=256 * 150,
    )  # fmt: skip
    with torch.no_grad():
        agent.network.action_head.bias.copy_(torch.tensor([0.5, 0.0, -0.5]))
    agent.network.make_reference()
    reference = agent.exploring_policy_table()[0]
    for _ in agent.learn():
        pass
    expected = reference * np.exp(np.array([0.0, 0.5, 1.0]) / 0.5)
    np.testing.assert_allclose(agent.exploring_policy_table()[0], expected / expected.sum(), atol=0.03)


def test_the_reference_is_what_it_was_and_is_refreshed_when_asked():
    agent = make("grpo", vector(Bandit, 8, AutoresetMode.NEXT_STEP), groups=2, group_size=4, kl_coefficient=0.1,
                 reference_updates=3)  # fmt: skip
    shown = {"observation": torch.zeros(1, 1, dtype=torch.int64)}
    before = agent.network.actor(shown).detach()
    for updates, _ in enumerate(agent.learn(), start=1):
        same = torch.equal(agent.network.reference.actor(shown), before)
        current = torch.equal(agent.network.reference.actor(shown), agent.network.actor(shown))
        assert (same, current) == ((True, False) if updates < 3 else (False, True))
        if updates == 3:
            break


def test_advantages_of_grpo_by_hand():
    agent = make("grpo", vector(Clock, 2, AutoresetMode.NEXT_STEP), groups=1, group_size=2, gamma=0.5)
    t = agent.collector.episodes(agent.network, 1, 2, 3, agent.rng)
    t = t.replace(
        rewards=torch.tensor([[0.0, 4.0, 0.0], [2.0, 0.0, 0.0]]),
        steps=t.steps.replace(mask=torch.tensor([[True, True, False], [True, True, True]])),
    )

    def advantages(**fields):
        made = make("grpo", vector(Clock, 2, AutoresetMode.NEXT_STEP), groups=1, group_size=2, gamma=0.5, **fields)
        return made._advantages(t)

    zero = torch.zeros(2, 3)
    torch.testing.assert_close(advantages(credit="outcome"), zero)  # ½·4 = 2: both returns are 2
    expected = torch.tensor([[0.0, 2.0, 0.0], [0.0, -2.0, 0.0]])
    torch.testing.assert_close(advantages(baseline="centred"), expected)
    torch.testing.assert_close(advantages(baseline="leave-one-out"), 2 * expected)
    torch.testing.assert_close(advantages(), expected / np.sqrt(8 / 5))  # five steps, squares 4 + 4


def test_advantages_of_grpo_by_state():
    """Two episodes cross in state 5: only what follows from there is compared, whenever it was."""
    env = gym.make("gridzero/GridWorld-v0")
    agent = make("grpo", env, groups=1, group_size=2, gamma=1.0, baseline="centred")
    assert agent.config.credit == "state"  # observations are choices
    t = agent.collector.episodes(agent.network, 1, 2, 3, agent.rng)
    steps = t.steps.replace(
        observations={"observation": torch.tensor([[[1], [5], [2]], [[5], [3], [0]]])},
        mask=torch.tensor([[True, True, True], [True, True, False]]),
    )
    t = t.replace(steps=steps, rewards=torch.tensor([[9.0, 0.0, 4.0], [0.0, 2.0, 0.0]]))
    torch.testing.assert_close(agent._advantages(t), torch.tensor([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]))
    assert make("grpo", env, variant="dr_grpo").config.credit == "outcome"
    assert make("grpo", env, memory="gru").config.credit == "to-go"
    assert make("grpo", vector(Clock, 64, AutoresetMode.NEXT_STEP)).config.credit == "to-go"


def test_kl_penalty_keeps_grpo_near_its_reference():
    env = vector(Bandit, 32, AutoresetMode.NEXT_STEP)
    far, near = (
        make("grpo", env, groups=4, kl_coefficient=beta, baseline="centred", learning_rate=1e-2) for beta in (0.0, 10.0)
    )
    for agent in (far, near):
        run(agent, 3_000)
    uniform = torch.full((3,), 1 / 3).log()
    kl_far, kl_near = (
        float((torch.tensor(p) * kl_estimate(torch.tensor(p).log(), uniform.double(), "k1")).sum())
        for p in (agent.exploring_policy_table()[0] for agent in (far, near))
    )
    assert kl_far > 0.5
    assert kl_near < 0.01


# Tables of worlds whose states can be counted


@pytest.mark.parametrize("observation", ["index", "coordinates", "one_hot", "window", "image"])
def test_every_state_of_the_grid_is_seen_in_order(observation):
    env = gym.make("gridzero/GridWorld-v0", observation=observation)
    agent = make("ppo", env, num_envs=2)
    table = agent.exploring_policy_table()
    env.reset(seed=0)
    for state in (0, 7, 24):
        read = agent.network.read([env.unwrapped.set_state(state)])
        with torch.no_grad():
            outputs = agent.network.outputs(agent.network.actor(read), read)
        np.testing.assert_allclose(outputs.softmax(-1)[0].numpy(), table[state], atol=1e-6)


def test_what_has_no_table_says_so():
    agent = make("ppo", "CartPole-v1", num_envs=2)
    with pytest.raises(ValueError, match="cannot be counted"):
        agent.policy_table()
    agent = make("ppo", vector(Recall, 2), memory="gru")
    with pytest.raises(ValueError, match="memory"):
        agent.policy_table()


def test_schedules_span_what_is_planned():
    """The budget; what the config says, if it does; nothing, where only seconds limit it. Half the steps only reset."""

    def rates(**budget):
        agent = make("ppo", vector(Bandit, 4, AutoresetMode.NEXT_STEP), rollout_steps=32, epochs=1, hidden=(4,),
                     **budget.pop("fields", {}))  # fmt: skip
        updates = itertools.islice(training(agent, Budget(**budget)), 4)
        return [update.metrics["learning_rate"] for update in updates]

    np.testing.assert_allclose(rates(steps=256), 3e-3 * np.array([1, 0.75, 0.5, 0.25]))
    np.testing.assert_allclose(rates(steps=256, fields={"schedule_steps": 128}), 3e-3 * np.array([1, 0.5]))
    np.testing.assert_allclose(rates(seconds=1e6), 3e-3 * np.ones(4))
    constant = {"learning_rate_schedule": "constant", "schedule_steps": 128, "entropy_coefficient": 0.0}
    np.testing.assert_allclose(rates(steps=256, fields=constant), 3e-3 * np.ones(4))  # no bonus has a schedule


def test_defaults_depend_on_the_actions():
    """An entropy bonus lets the deviation of Gaussian actions grow; what is set counts more than any default."""
    found = [make("ppo", vector(lambda kind=kind: Identity("box", kind), 2)).config for kind in ("box", "discrete")]
    assert [config.entropy_coefficient for config in found] == [0.0, 0.1]
    assert [config.normalise_observations for config in found] == [True, False]
    own = make("ppo", vector(lambda: Identity("box", "box"), 2), entropy_coefficient=0.2, normalise_observations=False)
    assert (own.config.entropy_coefficient, own.config.normalise_observations) == (0.2, False)


# Exactness


VARIANTS = {
    "ppo": ("ppo", lambda: vector(lambda: Identity("dict", "multi-discrete"), 3), {"rollout_steps": 11}),
    "normalised": (
        "ppo",
        lambda: vector(lambda: Identity("box", "box"), 3),
        {"rollout_steps": 11, "normalise_observations": True, "normalise_rewards": True},
    ),
    "recurrent": ("ppo", lambda: vector(Recall, 3), {"rollout_steps": 11, "memory": "lstm"}),
    "native": ("ppo", lambda: gym.make("gridzero/GridWorld-v0"), {"rollout_steps": 11, "num_envs": 3}),
    "gymnasium's native": ("ppo", lambda: gym.make("CartPole-v1"), {"rollout_steps": 40, "num_envs": 3}),
    "bonus": (
        "ppo",
        lambda: vector(lambda: Identity("multi-discrete", "multi-discrete"), 3),
        {"rollout_steps": 11, "exploration_bonus": 0.3, "schedule_steps": 400},
    ),
    "grpo": (
        "grpo",
        lambda: gym.make("gridzero/GridWorld-v0"),
        {"groups": 2, "group_size": 2, "kl_coefficient": 0.1, "reference_updates": 2, "normalise_observations": True},
    ),
    "grpo with a bonus": (
        "grpo",
        lambda: gym.make("gridzero/GridWorld-v0"),
        {"groups": 2, "group_size": 2, "exploration_bonus": 0.3},
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_interrupted_and_resumed_is_uninterrupted(variant):
    name, env, fields = VARIANTS[variant]

    def collect(agent, updates):
        found = []
        for update in agent.learn():
            found.append((update.step, dict(update.metrics)))
            if len(found) == updates:
                return found
        return found

    whole = collect(make(name, env(), seed=3, hidden=(8,), **fields), 5)
    first = make(name, env(), seed=3, hidden=(8,), **fields)
    assert collect(first, 3) == whole[:3]
    state = unflatten(*flatten(first.state_dict()))
    second = make(name, env(), seed=3, hidden=(8,), **fields)
    second.load_state_dict(state)
    assert collect(second, 2) == whole[3:]
    other = make(name, env(), seed=4, hidden=(8,), **fields)
    assert collect(other, 5) != whole


@pytest.mark.parametrize("variant", VARIANTS)
def test_passes_over_microbatches_add_up(variant):
    name, env, fields = VARIANTS[variant]
    first = []
    for size in (None, 50):
        agent = make(name, env(), seed=3, hidden=(8,), microbatch_size=size, **fields | {"learning_rate": 1e-6})
        first.append(next(iter(agent.learn())).metrics)
    assert first[0].keys() == first[1].keys()
    for term, number in first[0].items():
        assert first[1][term] == pytest.approx(number, rel=1e-3, abs=1e-5), term


def test_a_state_of_other_networks_is_refused():
    agent = make("ppo", vector(Recall, 2), hidden=(8,))
    with pytest.raises(ValueError, match="other networks"):
        make("ppo", vector(Recall, 2), hidden=(9,)).load_state_dict(agent.state_dict())


# Environments and settings


def test_copies():
    native = copies(gym.make("CartPole-v1"), None)
    assert (type(native).__name__, native.num_envs) == ("CartPoleVectorEnv", 64)
    seeded = copies(gym.make("CartPole-v1"), 3, seedable=True)
    assert (type(seeded).__name__, seeded.num_envs) == ("SyncVectorEnv", 3)
    wrapped = copies(gym.wrappers.ClipReward(gym.make("CartPole-v1"), 0, 0.5), 2)
    wrapped.reset(seed=0)
    assert wrapped.step(np.array([0, 1]))[1].tolist() == [0.5, 0.5]
    alone = copies(Bandit(), None)
    assert alone.num_envs == 1
    grid = copies(gym.make("gridzero/GridWorld-v0", layout="zhao-3x3"), 5, seedable=True)
    assert type(grid.unwrapped).__name__ == "GridWorldVector"
    assert grid.single_observation_space.n == 9
    for call in (
        lambda: copies(Bandit(), 2),
        lambda: copies(native, 3),
        lambda: copies(native, None, seedable=True),
        lambda: copies(gym.make("CartPole-v1"), 0),
    ):
        with pytest.raises(ValueError, match=r"num_envs|copied|seeds"):
            call()


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("ppo", {"gamma": 1.1}),
        ("ppo", {"epochs": 0}),
        ("ppo", {"activation": "sine"}),
        ("ppo", {"hidden": ()}),
        ("ppo", {"clip": 0.0}),
        ("ppo", {"learning_rate": float("nan")}),
        ("ppo", {"normalise_advantages": "sometimes"}),
        ("ppo", {"target_kl": -1.0}),
        ("ppo", {"exploration_bonus": -1.0}),
        ("grpo", {"group_size": 1}),
        ("grpo", {"num_envs": 3}),
        ("grpo", {"baseline": "median"}),
        ("grpo", {"kl_estimator": "k4"}),
    ],
)
def test_settings_that_make_no_sense_are_refused(name, fields):
    field = next(iter(fields))
    with pytest.raises(ValueError, match=f"{field} must"):
        agent_class(name).Config(**fields)
