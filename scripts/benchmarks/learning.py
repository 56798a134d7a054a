"""PPO on CartPole-v1: steps per second, and seconds until the mean return is 475.

Ours has its default settings, whose batches are large, where steps a second are counted; where time is, its preset,
which learns more from each step and takes fewer a second. Stable-Baselines3 gets the settings that rl-zoo tuned for
this world in both. The third contender is PPO in one loop, as CleanRL writes it, with CleanRL's settings. All have one
thread, and schedules that span 100,000 steps. Every 2,000 steps the clock stands while 100 episodes are played without
exploring.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from gridzero.agents import make
from gridzero.agents.presets import preset
from gridzero.benchmarks.measure import Row, clock, installed, median_ratio, rounds

ID = "CartPole-v1"
SOLVED = 475.0
SPAN = 100_000
TRY_EVERY = 2_000

Categorical: Any = torch.distributions.Categorical  # its methods have no annotations

Check = Callable[[int, Callable[[Any], Any]], bool]
"""Told after each update how many steps were taken and how the policy acts now; says whether to stop."""

Learner = Callable[[int, Check], None]
"""Learns with a seed until it is told to stop."""


def rows(quick: bool) -> list[Row]:
    """Rows of the comparisons."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _rows(repeats=1 if quick else 5, seeds=3 if quick else 5, steps=10_000 if quick else 40_000)
    finally:
        torch.set_num_threads(threads)


def _rows(repeats: int, seeds: int, steps: int) -> list[Row]:
    learners: dict[str, Learner] = {"ours": ours}
    if installed("stable_baselines3"):
        learners["Stable-Baselines3"] = stable_baselines
    learners["one loop, CleanRL's way"] = one_loop
    tuned = learners | {"ours": partial(ours, **preset("ppo", ID).fields)}
    for learner in learners.values():  # what is done only once does not count
        steps_per_second(learner, 4_000, 0)
    speed = rounds(
        {name: _seeds(partial(steps_per_second, learner, steps)) for name, learner in learners.items()}, repeats
    )
    # From seed to seed the time differs by a factor of three, the speed by nothing.
    taken: dict[str, list[int]] = {name: [] for name in learners}
    time = rounds({name: _seeds(partial(_solve, learner, taken[name])) for name, learner in tuned.items()}, seeds)
    result = []
    for figures, work, unit, bar in (
        (speed, f"PPO learns {ID}", "steps/s", 12.0),
        (time, f"PPO learns {ID} until the mean return is {SOLVED:.0f}", "s", 5.0),
    ):
        mine = statistics.median(figures["ours"])
        for name in ("Stable-Baselines3", "one loop, CleanRL's way"):
            wanted = bar if name == "Stable-Baselines3" else None
            if name not in figures:
                result.append(Row(work, unit, mine, name, bar=wanted, on="ratio", note="not installed"))
                continue
            better, worse = (name, "ours") if unit == "s" else ("ours", name)
            note = "ours: the default settings"
            if unit == "s":
                counts = [f"{statistics.median(taken[who]):,.0f}" for who in ("ours", name)]
                missed = sum(math.isinf(value) for value in figures[name])
                note = f"ours: the preset; after {counts[0]} against {counts[1]} steps" + (
                    f"; {missed} of {seeds} never" if missed else ""
                )
            theirs = statistics.median(figures[name])
            result.append(
                Row(
                    work, unit, mine, name, theirs, median_ratio(figures[better], figures[worse]), wanted, "ratio", note
                )
            )
    return result


def _seeds(measure: Callable[[int], float]) -> Callable[[], float]:
    """Draw a new seed at each call."""
    seed = iter(range(1_000_000))
    return lambda: measure(next(seed))


# Measuring


def steps_per_second(learner: Learner, steps: int, seed: int) -> float:
    """Rate of learning for so many steps, with environments and networks already built."""
    seen: list[tuple[int, float]] = []

    def check(step: int, act: Callable[[Any], Any]) -> bool:
        seen.append((step, clock()))
        return step >= steps

    learner(seed, check)
    (first, began), (last, ended) = seen[0], seen[-1]
    return (last - first) / (ended - began)


def seconds_to_solve(learner: Learner, seed: int) -> tuple[float, int]:
    """Seconds of learning, and steps, until 100 episodes have a mean return of 475; infinite if that never happens."""
    paused, following = 0.0, TRY_EVERY
    solved_after: float | None = None
    steps = 0
    began = clock()

    def check(step: int, act: Callable[[Any], Any]) -> bool:
        nonlocal paused, following, solved_after, steps
        steps = step
        if step < following:
            return False
        following = step + TRY_EVERY
        stopped = clock()
        if mean_return(act) >= SOLVED:
            solved_after = stopped - began - paused
        paused += clock() - stopped
        return solved_after is not None or step >= SPAN

    learner(seed, check)
    return (math.inf if solved_after is None else solved_after), steps


def _solve(learner: Learner, taken: list[int], seed: int) -> float:
    seconds, steps = seconds_to_solve(learner, seed)
    taken.append(steps)
    return seconds


def mean_return(act: Callable[[Any], Any], episodes: int = 100) -> float:
    """Mean return of so many episodes."""
    env = gym.make_vec(ID, episodes)
    observations, _ = env.reset(seed=12_345)
    totals, alive = np.zeros(episodes), np.ones(episodes, dtype=np.bool_)
    while alive.any():
        observations, rewards, terminated, truncated, _ = env.step(np.asarray(act(observations)))
        totals += rewards * alive
        alive &= ~(terminated | truncated)
    env.close()
    return float(totals.mean())


# Contenders


def ours(seed: int, check: Check, **fields: Any) -> None:
    """PPO of gridzero, with its default settings but for the ``fields`` given."""
    agent = make("ppo", ID, seed=seed, schedule_steps=SPAN, **fields)
    check(0, agent.act)
    for update in agent.learn():
        if check(update.step, agent.act):
            break
    agent.vector.close()  # type: ignore[attr-defined]  # all that learn by gradients have one


def stable_baselines(seed: int, check: Check) -> None:
    """PPO of Stable-Baselines3, with rl-zoo's settings for this world."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env

    class Stop(BaseCallback):
        """Asks before each rollout, which is after each update."""

        over = False

        def _on_rollout_start(self) -> None:
            self.over = check(self.num_timesteps, lambda batch: model.predict(batch, deterministic=True)[0])

        def _on_step(self) -> bool:
            return not self.over

    env = make_vec_env(ID, n_envs=8, seed=seed)
    model = PPO(
        "MlpPolicy", env, n_steps=32, batch_size=256, gae_lambda=0.8, gamma=0.98, n_epochs=20, ent_coef=0.0,
        learning_rate=lambda left: 1e-3 * left, clip_range=lambda left: 0.2 * left, seed=seed, device="cpu",
    )  # fmt: skip
    model.learn(SPAN, callback=Stop())
    env.close()


def one_loop(seed: int, check: Check) -> None:
    """PPO as a single script, with the settings of CleanRL's ppo.py but for the span of its learning rate."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    count, length, gamma, lambda_, clip = 4, 128, 0.99, 0.95, 0.2
    env = gym.make_vec(
        ID, count, vectorization_mode="sync", vector_kwargs={"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP}
    )
    actor, critic = _network(2, 0.01), _network(1, 1.0)
    parameters = [*actor.parameters(), *critic.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=2.5e-4, eps=1e-5)
    seen, values = torch.zeros(length, count, 4), torch.zeros(length + 1, count)
    actions, log_probs, rewards, ends = (torch.zeros(length, count) for _ in range(4))
    observations = torch.as_tensor(env.reset(seed=seed)[0])
    steps = 0

    def act(batch: Any) -> Any:
        with torch.no_grad():
            return actor(torch.as_tensor(batch)).argmax(dim=1).numpy()

    while not check(steps, act) and steps < SPAN:
        optimiser.param_groups[0]["lr"] = 2.5e-4 * (1 - steps / SPAN)
        with torch.no_grad():
            for t in range(length):
                choice = Categorical(logits=actor(observations))
                seen[t], actions[t], values[t] = observations, choice.sample(), critic(observations).squeeze(-1)
                log_probs[t] = choice.log_prob(actions[t])
                following, reward, terminated, truncated, _ = env.step(actions[t].long().numpy())
                observations, rewards[t] = torch.as_tensor(following), torch.as_tensor(reward)
                ends[t] = torch.as_tensor(terminated | truncated)
            values[length] = critic(observations).squeeze(-1)
            advantages, last = torch.zeros(length, count), torch.zeros(count)
            for t in reversed(range(length)):
                error = rewards[t] + gamma * (1 - ends[t]) * values[t + 1] - values[t]
                last = error + gamma * lambda_ * (1 - ends[t]) * last
                advantages[t] = last
        steps += length * count
        shown, taken = seen.reshape(-1, 4), actions.reshape(-1)
        old, gains, old_values = log_probs.reshape(-1), advantages.reshape(-1), values[:-1].reshape(-1)
        targets = gains + old_values
        for _ in range(4):
            for part in torch.as_tensor(rng.permutation(len(shown))).chunk(4):
                choice = Categorical(logits=actor(shown[part]))
                ratio = (choice.log_prob(taken[part]) - old[part]).exp()
                gain = (gains[part] - gains[part].mean()) / (gains[part].std() + 1e-8)
                policy_loss = torch.max(-gain * ratio, -gain * ratio.clamp(1 - clip, 1 + clip)).mean()
                found = critic(shown[part]).squeeze(-1)
                clipped = old_values[part] + (found - old_values[part]).clamp(-clip, clip)
                errors = torch.max((found - targets[part]).square(), (clipped - targets[part]).square())
                loss = policy_loss - 0.01 * choice.entropy().mean() + 0.5 * 0.5 * errors.mean()
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(parameters, 0.5)
                optimiser.step()
    env.close()


def _network(outputs: int, gain: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, width, scale in ((4, 64, 2**0.5), (64, 64, 2**0.5), (64, outputs, gain)):
        linear = nn.Linear(inputs, width)
        nn.init.orthogonal_(linear.weight, scale)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.Tanh()]
    return nn.Sequential(*layers[:-1])
