"""Supervised fine-tuning: its loss, its schedule, its state, and its place among the agents."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
import transformers

import gridzero
from gridzero.__main__ import main
from gridzero.agents.checkpoint import flatten, unflatten
from gridzero.agents.neural.schedules import warm_cosine
from gridzero.envs.tasks import make_task
from gridzero.envs.tasks.vocabulary import Vocabulary
from gridzero.llm_rl.data.examples import Example, demonstrate
from gridzero.llm_rl.models.causal import tiny_model
from gridzero.llm_rl.models.pretrained import SHIPPED
from gridzero.llm_rl.models.rendering import PlainRenderer
from gridzero.llm_rl.policies.base_models import Recipe, warm_up
from gridzero.llm_rl.scoring.completions import completion_loss

TINY: dict[str, Any] = {
    "episode_limit": 16,
    "width": 16,
    "layers": 1,
    "heads": 2,
    "minibatch_size": 8,
    "gradient_steps": 2,
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Two threads are many times slower for small networks on a busy machine."""
    torch.set_num_threads(1)


def make(seed: int = 0, task: str = "addition", **fields: Any) -> Any:
    env = gym.make("gridzero/TextGeneration-v0", task=task)
    return gridzero.agents.make("sft", env, seed=seed, **(TINY | fields))


def learn(agent: Any, updates: int) -> list[Any]:
    return list(itertools.islice(agent.learn(), updates))


def gpt2(size: int) -> Any:
    """A model of another family, which is not scored in packed rows."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=size, n_positions=256, n_embd=16, n_layer=1, n_head=2)
    return transformers.GPT2LMHeadModel(config).eval()


@pytest.mark.parametrize("task_name", ["addition", "grid-walk"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_loss_is_the_cross_entropy_of_completions_alone(task_name: str, family: str) -> None:
    task = make_task(task_name)
    vocabulary = Vocabulary.for_task(task)
    rng = np.random.default_rng(0)
    demonstrations = [
        demonstrate(task, rng, PlainRenderer(lambda text, begins: vocabulary.encode(text), vocabulary.end))
        for _ in range(5)
    ]
    if family == "gpt2":
        demonstrations = [Example(one.tokens[:256], one.completion[:256]) for one in demonstrations]
        model = gpt2(len(vocabulary))
    else:
        model = tiny_model(len(vocabulary), width=16, layers=1, heads=2, positions=2048)
    loss, accuracy = completion_loss(model, demonstrations, vocabulary.pad)
    losses: list[torch.Tensor] = []
    right: list[torch.Tensor] = []
    for one in demonstrations:
        tokens = torch.tensor(one.tokens)
        with torch.no_grad():
            logits = model(input_ids=tokens[None]).logits[0, :-1]
        counted = torch.tensor(one.completion[1:])
        losses.append(torch.nn.functional.cross_entropy(logits, tokens[1:], reduction="none")[counted])
        right.append((logits.argmax(dim=-1) == tokens[1:])[counted])
    assert float(loss.detach()) == pytest.approx(float(torch.cat(losses).mean()), rel=1e-4)
    assert float(accuracy) == pytest.approx(float(torch.cat(right).float().mean()), abs=0.02)


def test_completions_are_what_the_model_says_in_a_conversation_and_end_with_the_end_token() -> None:
    task = make_task("grid-walk")
    vocabulary = Vocabulary.for_task(task)
    one = demonstrate(
        task, np.random.default_rng(0), PlainRenderer(lambda text, begins: vocabulary.encode(text), vocabulary.end)
    )
    rng = np.random.default_rng(0)
    problem = task.sample(rng)
    completions: list[str] = []
    while True:
        completions.append(task.demonstrate(problem, rng, completions))
        if task.reply(problem, completions) is None:
            break
    assert len(completions) > 1
    said = [token for token, own in zip(one.tokens, one.completion, strict=True) if own]
    assert said == [token for text in completions for token in [*vocabulary.encode(text), vocabulary.end]]


def test_it_makes_the_base_model_that_is_made_without_it() -> None:
    agent = make(schedule_steps=48, learning_rate=3e-3)
    learn(agent, 5)
    assert agent.steps == 48
    model, _ = warm_up(make_task("addition"), Recipe(width=16, layers=1, heads=2, steps=6, batch=8))
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, agent.network.model.state_dict()[name]), name


def test_it_learns_the_form_of_solutions_and_then_the_solutions() -> None:
    agent = make(minibatch_size=32, width=32, layers=2, schedule_steps=32 * 60, learning_rate=1e-2)
    updates = list(agent.learn())
    assert updates[-1].step == 32 * 60
    assert updates[0].metrics["loss"] > 2.0
    assert updates[-1].metrics["loss"] < 1.2
    assert updates[-1].metrics["token_accuracy"] > 0.6


def test_the_learning_rate_rises_and_falls_to_nothing_at_the_end_of_the_budget() -> None:
    assert warm_cosine(0.05) == pytest.approx(0.5 * (1 + math.cos(math.pi / 20)))
    agent = make(gradient_steps=1)
    agent.planned_steps = 50  # 7 gradient steps of 8, the last beyond the budget
    rates = [update.metrics["learning_rate"] for update in agent.learn()]
    assert len(rates) == 7
    assert rates[-1] == 0.0
    assert rates == sorted(rates, reverse=True)
    agent = make(gradient_steps=1)
    agent.planned_steps = math.inf
    assert [update.metrics["learning_rate"] for update in learn(agent, 2)] == [3e-3, 3e-3]


def test_so_many_demonstrations_are_passed_over_again_and_again() -> None:
    agent, other = make(demonstrations=20), make(demonstrations=20)
    learn(other, 1)  # which ones come next depends on the steps alone

    def at(agent: Any, steps: int) -> list[tuple[int, ...]]:
        agent.steps = steps
        return [tuple(one.tokens) for one in next(agent.batches()).items]

    seen = [tokens for steps in range(0, 80, 8) for tokens in at(agent, steps)]
    assert seen == [tokens for steps in range(0, 80, 8) for tokens in at(other, steps)]
    assert 10 < len(set(seen)) <= 20
    for first in range(0, 80, 20):
        assert sorted(seen[first : first + 20]) == sorted(seen[:20])  # a pass has them all


@pytest.mark.parametrize("kind", [None, "lora", "prefix", "prompt", "ia3", "bottleneck"])
def test_a_restored_learner_goes_on_exactly(kind: str | None, tmp_path: Path) -> None:
    policy = {} if kind is None else {"peft": kind, "model": str(next(SHIPPED.glob("addition-*")))}
    original, restored = make(3, policy=policy), make(3, policy=policy)
    learn(original, 2)
    tree, arrays = flatten(original.state_dict())
    original.save_artifacts(tmp_path)
    restored.load_state_dict(unflatten(json.loads(json.dumps(tree)), arrays))
    restored.load_artifacts(tmp_path)
    assert learn(restored, 2) == learn(original, 2)


def test_seeds_decide_everything_and_acting_greedily_changes_nothing() -> None:
    watched, alone, other = make(1), make(1), make(2)
    observations = [watched.env.reset(seed=0)[0]] * 2
    actions = watched.act(observations)
    assert actions[0] == actions[1]
    assert learn(watched, 2) == learn(alone, 2) != learn(other, 2)


@pytest.mark.parametrize(
    ("env", "fields", "message"),
    [
        ("FrozenLake-v1", {}, "a text task with worked solutions"),
        ("gridzero/TokenGeneration-v0", {}, "a text task with worked solutions"),
        ("gridzero/TextGeneration-v0", {"minibatch_size": 0}, "minibatch_size must be above 0"),
        ("gridzero/TextGeneration-v0", {"learning_rate_schedule": "linear"}, "must be one of cosine, constant"),
        ("gridzero/TextGeneration-v0", {"demonstrations": 0}, "demonstrations must be above 0"),
        ("gridzero/TextGeneration-v0", {"demonstrations": 9, "data": "x"}, "give one of them"),
        ("gridzero/TextGeneration-v0", {"width": 15}, "width must be an even multiple of heads"),
        ("gridzero/TextGeneration-v0", {"policy": {"modell": "x"}}, "no option 'modell'"),
        ("gridzero/TextGeneration-v0", {"policy": {"peft": "lora"}}, "peft adapts a trained model"),
    ],
)
def test_what_cannot_be_is_refused(env: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gridzero.agents.make("sft", env, **(TINY | fields))


def test_a_batch_without_completions_is_an_error_and_no_loss_of_nothing() -> None:
    with pytest.raises(ValueError, match="all completions are cut away: they begin after 4 tokens"):
        next(make(max_length=4).learn())


def test_it_trains_resumes_and_evaluates_from_the_command_line(tmp_path: Path, capsys: Any) -> None:
    run = str(tmp_path / "sft")
    size = ["--width", "16", "--layers", "1", "--heads", "2", "--minibatch-size", "8", "--episode-limit", "16"]
    command = ["train", "sft", "--env", "gridzero/TextGeneration-v0", "--env.task", "addition", *size]
    assert main([*command, "--steps", "160", "--evaluation-episodes", "4", "--run", run]) == 0
    assert main(["train", "--run", run, "--resume", "--steps", "320"]) == 0
    assert main(["evaluate", run, "--episodes", "4"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "sft" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows][-1] == 320
    assert main(["train", "sft", "--env", "FrozenLake-v1", "--run", str(tmp_path / "no")]) == 2
    assert "text task" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
