"""Learners held against exact optima: reward models against Bayes, labels of steps against the work, RL on a run."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import gridzero
from gridzero.figures.text_world import TextWorld
from gridzero.llm_rl.learners.process_reward_model import rollout_labels, work_labels
from gridzero.llm_rl.learners.sampling import completion_texts
from gridzero.llm_rl.scoring.enumeration import preferred, tilted, total_variation


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Two threads are many times slower for small networks on a busy machine."""
    torch.set_num_threads(1)


def test_the_labels_of_a_worked_solution_and_of_one_with_a_slip() -> None:
    task = gym.make("gridzero/TextGeneration-v0", task="addition", digits=2).unwrapped.task  # type: ignore[attr-defined]
    problem = task.sample(np.random.default_rng(0))
    work = task.template.completion(task.work(problem, np.random.default_rng(0)), problem.reference)
    first, last = work.split(",")
    assert work_labels(task, problem, [first, last], ",") == [1.0, 1.0]
    assert work_labels(task, problem, [first[:-1] + ("1" if first[-1] != "1" else "2"), last], ",") == [0.0, 1.0]
    assert work_labels(task, problem, [first, "nonsense"], ",") == [1.0, 0.0]


def test_labels_from_rollouts_are_those_of_what_the_model_reaches() -> None:
    """A writer that always answers a makes right whatever comes before, where a is the answer, and nothing else."""
    agent = TextWorld().learner("process-reward-model", labels="rollouts", episode_limit=4)
    task, policy = agent.task, agent.network
    always = [*policy.renderer.text("a"), policy.renderer.end]

    class Writer:
        limit, renderer, sampling, decode = policy.limit, policy.renderer, policy.sampling, policy.decode

        def generate(self, prompts: list[list[int]], copies: int, *rest: Any) -> Any:
            tokens = torch.tensor(always).repeat(len(prompts) * copies, 1)
            return type("Written", (), {"tokens": tokens, "ended": torch.ones(len(tokens), dtype=torch.bool)})

    rng = np.random.default_rng(0)
    problems = [task.sample(rng) for _ in range(20)]
    labels = rollout_labels(Writer(), task, problems, [["b", "\nd"]] * 20, "\n", 3, rng)  # type: ignore[arg-type]
    assert [row[0] for row in labels] == [float(problem.reference == "a") for problem in problems]
    assert [row[1] for row in labels] == [float(problem.reference == "d") for problem in problems]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_math_shepherds_labels_of_the_base_models_steps_are_the_exact_ones(seed: int) -> None:
    env = gym.make("gridzero/TextGeneration-v0", task="addition")
    agent: Any = gridzero.agents.make("process-reward-model", env, labels="rollouts", sampling_size=256, seed=seed)
    agent.setup()
    rng = np.random.default_rng(seed)
    groups = agent.sampler(agent.network, agent.config.episode_limit, rng)
    written = [one for group in groups for one in group]
    steps = [text.split(",") for text in completion_texts(agent.network, [one.example for one in written])]
    problems = [one.problem for one in written]
    exact = [work_labels(agent.task, *row, ",") for row in zip(problems, steps, strict=True)]
    found = rollout_labels(agent.network, agent.task, problems, steps, ",", 4, rng)
    pairs = [pair for a, b in zip(exact, found, strict=True) for pair in zip(a, b, strict=True)]
    agreement = np.mean([a == b for a, b in pairs])
    print(f"{len(pairs)} labels, of which {agreement:.4f} agree")
    assert agreement >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_reward_model_is_nearly_as_right_as_can_be_and_ppo_reaches_its_optimum(seed: int) -> None:
    """With 20,000 pairs; the optimum of PPO with a divergence to the reference is π_ref exp(r/β)."""
    world = TextWorld()
    model = world.learner(
        "reward-model",
        seed=seed,
        pairs=20_000,
        labels="drawn",
        minibatch_size=256,
        gradient_steps=20,
        sampling_size=500,
        learning_rate=4e-3,
        schedule_steps=100_000,
        episode_limit=2,
    )
    for _ in model.learn():
        pass
    rewards = world.judged(model)
    weights = world.reference[:, :, None] * world.reference[:, None, :]
    truth, given = preferred(world.rewards), preferred(rewards)
    bayes = float((weights * np.maximum(truth, 1 - truth)).sum(axis=(1, 2)).mean())
    right = np.where(given > 0.5, truth, np.where(given < 0.5, 1 - truth, 0.5))
    accuracy = float((weights * right).sum(axis=(1, 2)).mean())
    bins = np.minimum((10 * given).astype(int), 9)
    gap = sum(abs(float((weights * (given - truth) * (bins == b)).sum())) for b in range(10)) / len(weights)
    print(f"accuracy {accuracy:.4f} of {bayes:.4f}, calibration gap {gap:.4f}")
    assert accuracy > bayes - 0.02
    assert gap <= 0.03
    beta, steps = 0.5, 300 * 384
    agent = world.learner(
        "ppo",
        rewards={model: 1.0},
        seed=seed,
        num_envs=384,
        rollout_steps=2,
        epochs=2,
        normalise_advantages="none",
        kl_coefficient=beta,
        learning_rate=5e-3,
        learning_rate_schedule="linear",
        minibatch_size=10**6,
        schedule_steps=steps,
    )
    *_, last = world.path(agent, steps)
    distance = total_variation(last, tilted(world.reference, rewards, beta))
    print(f"PPO on the reward model: {distance:.4f} from its optimum")
    assert distance < 0.03
