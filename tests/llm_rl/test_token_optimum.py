"""Language models held against the exact optimum of a task whose completions can all be listed."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import gridzero
from gridzero.envs.tasks import make_task
from gridzero.envs.tasks.vocabulary import END, PAD, Vocabulary
from gridzero.llm_rl.models.causal import tiny_model
from gridzero.llm_rl.models.pretrained import save_model
from gridzero.llm_rl.models.tokenizer import character_tokenizer
from gridzero.llm_rl.scoring.enumeration import Enumeration, tilted, total_variation

BATCH, LIMIT, BETA = 384, 2, 0.2
GROUPS = {"groups": 6, "group_size": 64, "episode_limit": LIMIT, "epochs": 1}
AGENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "grpo": ("grpo", GROUPS),
    "dr_grpo": ("grpo", {**GROUPS, "variant": "dr_grpo"}),
    "rloo": ("grpo", {**GROUPS, "variant": "rloo"}),
    "ppo": ("ppo", {"num_envs": BATCH, "rollout_steps": LIMIT, "epochs": 2}),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of random weights for sums of one-digit numbers."""
    vocabulary = Vocabulary((PAD, END, *make_task("addition", digits=1, template="plain").alphabet()))
    model = tiny_model(len(vocabulary), width=32, layers=1, heads=2, positions=64, seed=1)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(model, character_tokenizer(vocabulary), folder)
    return str(folder)


class World:
    """Every completion of up to two tokens, of three problems, with rewards (3, N)."""

    def __init__(self, env: Any, policy: Any) -> None:
        task, problems = env.unwrapped.task, list(env.unwrapped.distinct_problems)
        self.completions = Enumeration(policy, [task.prompt(problem) for problem in problems], LIMIT)
        verdicts = [[task.verify(problem, text) for text in self.completions.texts] for problem in problems]
        self.rewards = np.array([[v.correct + 0.1 * v.well_formed for v in row] for row in verdicts])


def trained(name: str, saved: str, updates: int, **fields: Any) -> tuple[World, Any, Any]:
    """The task, and the probabilities of all completions before and after training."""
    kind, own = AGENTS[name]
    env = gym.make_vec(
        "gridzero/TextGeneration-v0", num_envs=BATCH, vectorization_mode="vector_entry_point",
        digits=1, template="plain", distinct=3,
    )  # fmt: skip
    settings = {"learning_rate": 5e-3, "learning_rate_schedule": "linear", "minibatch_size": 10**6}
    settings["schedule_steps"] = updates * BATCH
    agent: Any = gridzero.agents.make(kind, env, policy={"model": saved}, **{**settings, **own, **fields})
    world = World(env, agent.network)
    before = world.completions.probabilities(agent.network)
    for _ in agent.learn():
        pass
    assert agent.steps == updates * BATCH
    return world, before, world.completions.probabilities(agent.network)


def share_of_optimum(name: str, saved: str, updates: int) -> float:
    # A right answer is one completion among 241, with nothing on the way to it: explore first.
    world, _, after = trained(name, saved, updates, entropy_coefficient=0.1)
    return float((after * world.rewards).sum() / world.rewards.max(axis=1).sum())


def test_grpo_finds_the_best_completions(saved: str) -> None:
    assert share_of_optimum("grpo", saved, 150) > 0.97


@pytest.mark.slow
@pytest.mark.parametrize("name", AGENTS)
def test_within_one_percent_of_the_optimal_value(name: str, saved: str) -> None:
    share = share_of_optimum(name, saved, 300)
    print(f"{name}: {share:.4f} of V*")
    assert share > 0.99


@pytest.mark.slow
@pytest.mark.parametrize("name", AGENTS)
def test_the_regularised_optimum(name: str, saved: str) -> None:
    """π* ∝ π_ref exp(r/β), to 0.02 in total variation, from π_ref 0.4 away."""
    fields = {"normalise_advantages": "none"} if name == "ppo" else {"kl_in_reward": True}
    world, reference, after = trained(name, saved, 500, kl_coefficient=BETA, **fields)
    optimum = tilted(reference, world.rewards, BETA)
    distance = total_variation(after, optimum)
    print(f"{name}: {distance:.4f} from π*")
    assert total_variation(reference, optimum) > 0.4
    assert distance < 0.02
