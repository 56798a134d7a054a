"""Experts are counted as an independent count does, balanced by what algorithm 1 says, and left alone elsewhere."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

import gridzero.agents
from gridzero.agents.checkpoint import flatten, unflatten
from gridzero.envs.tasks import Task, make_task
from gridzero.llm_rl.data.examples import demonstrate
from gridzero.llm_rl.models.causal import hidden_states, tiny_model
from gridzero.llm_rl.models.experts import ExpertBalance, agreement, experts_of, recorded_experts, routers
from gridzero.llm_rl.models.peft import add_lora
from gridzero.llm_rl.scoring.completions import completion_scores

LENGTHS = [5, 3, 7]


def tiny(seed: int = 0) -> Any:
    return tiny_model(20, width=16, layers=3, heads=2, positions=64, architecture="deepseek_v3", seed=seed)


def tokens() -> Tensor:
    return torch.randint(2, 20, (len(LENGTHS), max(LENGTHS)), generator=torch.Generator().manual_seed(1))


def counted(model: Any, rows: Tensor) -> list[list[int]]:
    """Tokens of each expert in each layer: each sequence alone, by scores that are written out here."""
    seen: list[tuple[Any, Tensor]] = []
    hooks = [
        router.register_forward_pre_hook(
            lambda module, inputs: seen.append((module, inputs[0].detach().reshape(-1, 16)))
        )
        for router in routers(model)
    ]
    with torch.no_grad():
        for row, length in zip(rows, LENGTHS, strict=True):
            model(input_ids=row[None, :length])
    for hook in hooks:
        hook.remove()
    counts = {id(router): [0] * 8 for router in routers(model)}
    for router, states in seen:
        for state in states:
            scores = [
                1 / (1 + float(torch.exp(-(row @ state)))) + float(bias)
                for row, bias in zip(router.weight.detach(), router.e_score_correction_bias, strict=True)
            ]
            for expert in sorted(range(8), key=lambda i: -scores[i])[:2]:
                counts[id(router)][expert] += 1
    return [*counts.values()]


def test_loads_are_those_of_an_independent_count_and_biases_follow_them() -> None:
    model, rows = tiny(), tokens()
    assert len(routers(model)) == 2
    for number in range(3):
        for router in routers(model):
            if number == 0:
                router.e_score_correction_bias.copy_(torch.linspace(-0.1, 0.1, 8))
        before = [router.e_score_correction_bias.clone() for router in routers(model)]
        expected = counted(model, rows)
        balance = ExpertBalance(model, 0.05)
        with balance.counting(LENGTHS):
            hidden_states(model, rows)
        assert balance.loads is not None
        assert balance.loads.tolist() == expected
        violation = balance.step()["expert_violation"]
        assert violation == pytest.approx(sum(max(one) / (sum(one) / 8) - 1 for one in expected) / 2)
        for router, old, loads in zip(routers(model), before, expected, strict=True):
            mean = sum(loads) / 8
            moved = [0.05 * ((mean > load) - (mean < load)) for load in loads]
            torch.testing.assert_close(router.e_score_correction_bias, old + torch.tensor(moved))


def test_recording_changes_nothing() -> None:
    model, rows = tiny(), tokens()
    plain = hidden_states(model, rows)
    with recorded_experts(model) as chosen:
        torch.testing.assert_close(hidden_states(model, rows), plain, atol=0, rtol=0)
    assert [layer.shape for layer in chosen] == [(rows.numel(), 2)] * 2
    mask = torch.ones_like(rows, dtype=torch.bool)
    assert agreement(experts_of(model, rows, mask), experts_of(model, rows, mask)) == 1
    assert agreement(experts_of(model, rows, mask), experts_of(tiny(1), rows, mask)) < 1
    assert ExpertBalance(tiny_model(20, width=16, layers=1, heads=2, positions=64), 0.1).step() == {}


def test_adapters_leave_routers_and_experts_alone() -> None:
    adapted = add_lora(tiny(), 2, 4.0)
    trained = [name for name, weight in adapted.named_parameters() if weight.requires_grad]
    assert trained
    assert not [name for name in trained if "gate." in name or "mlp.experts" in name]
    balance = ExpertBalance(adapted, 0.05)
    with balance.counting(LENGTHS):
        hidden_states(adapted, tokens())
    assert balance.step()["expert_violation"] > 0
    assert not any(router.e_score_correction_bias.any() for router in routers(adapted))


def make(name: str, **settings: Any) -> Any:
    env = gym.make("gridzero/TextGeneration-v0", task="addition", digits=1, template="plain")
    return gridzero.agents.make(name, env, **settings)


def biases(agent: Any) -> list[Tensor]:
    return [router.e_score_correction_bias.clone() for router in routers(agent.network.model)]


def test_supervised_steps_balance_and_reinforcement_learning_does_not(tmp_path: Path) -> None:
    small = {"width": 8, "layers": 2, "heads": 2, "minibatch_size": 16, "policy": {"text": "deepseek_v3"}}
    agent, restored = make("sft", **small), make("sft", **small)
    unbalanced = make("sft", **small, expert_bias_rate=0)
    updates = list(itertools.islice(agent.learn(), 2))
    assert all(update.metrics["expert_violation"] > 0 for update in updates)
    assert all(bias.any() for bias in biases(agent))
    next(unbalanced.learn())
    assert not any(bias.any() for bias in biases(unbalanced))
    tree, arrays = flatten(agent.state_dict())
    agent.save_artifacts(tmp_path)
    restored.load_artifacts(tmp_path)
    restored.load_state_dict(unflatten(json.loads(json.dumps(tree)), arrays))
    assert next(restored.learn()).metrics == next(agent.learn()).metrics
    model = str(tmp_path / "model")
    groups = {"groups": 2, "group_size": 4, "episode_limit": 4, "learning_rate": 0.05, "policy": {"model": model}}
    learner = make("grpo", **groups, credit="outcome")
    before = biases(learner)
    assert all(bias.any() for bias in before)
    metrics = [update.metrics for update in itertools.islice(learner.learn(), 2)]
    assert all(0 < one["expert_agreement"] <= 1 and one["expert_violation"] > 0 for one in metrics)
    assert all(torch.equal(old, new) for old, new in zip(before, biases(learner), strict=True))


def test_text_is_of_new_models() -> None:
    with pytest.raises(ValueError, match="text must be one of llama, qwen3, deepseek_v3, not 'gpt'"):
        make("sft", policy={"text": "gpt"})
    with pytest.raises(ValueError, match="text is of a new tiny model"):
        make("sft", policy={"text": "deepseek_v3", "model": "there"})


def held_out_loss(agent: Any, task: Task) -> float:
    """Nats a token of 1,000 worked solutions that nobody is trained on."""
    rng, total, tokens = np.random.default_rng(0), 0.0, 0
    with torch.no_grad():
        for _ in range(10):
            examples = [demonstrate(task, rng, agent.network.renderer) for _ in range(100)]
            log_probs = completion_scores(agent.network.model, examples, agent.network.pad).log_probs
            total, tokens = total - float(log_probs.sum()), tokens + len(log_probs)
    return total / tokens


@pytest.mark.slow
def test_balancing_evens_out_loads_and_costs_nothing() -> None:
    """The bar: a maximal violation of at most 0.3, and at most 2 % more loss on what is held out, of three seeds."""
    small = {"width": 32, "layers": 2, "heads": 2, "minibatch_size": 64, "gradient_steps": 20, "schedule_steps": 10_240}
    options: dict[str, Any] = {"task": "addition", "digits": 2, "template": "plain"}
    task = make_task("addition", split="held-out", digits=2, template="plain")
    losses = []
    for seed in range(3):
        for settings in ({}, {"expert_bias_rate": 0.0}):
            env = gym.make("gridzero/TextGeneration-v0", **options)
            agent: Any = gridzero.agents.make(
                "sft", env, seed=seed, policy={"text": "deepseek_v3"}, **small, **settings
            )
            violation = [update.metrics for update in agent.learn()][-1]["expert_violation"]
            assert violation >= 0.8 if settings else violation <= 0.3
            losses.append(held_out_loss(agent, task))
    assert sum(losses[::2]) <= 1.02 * sum(losses[1::2])
