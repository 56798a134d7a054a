"""Every learner from examples: it learns, resumes exactly, and its run is a model or a reward."""

from __future__ import annotations

import fnmatch
import itertools
import json
import math
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

import gridzero
from gridzero.__main__ import main
from gridzero.agents.checkpoint import flatten, unflatten
from gridzero.commands.evaluate_search import check_reads
from gridzero.envs.tasks import make_task
from gridzero.envs.tasks.vocabulary import END, PAD, Vocabulary
from gridzero.llm_rl.learners.post_training import passes
from gridzero.llm_rl.models.causal import tiny_model
from gridzero.llm_rl.models.pretrained import save_model
from gridzero.llm_rl.models.tokenizer import character_tokenizer

SMALL: dict[str, Any] = {"minibatch_size": 8, "gradient_steps": 2, "episode_limit": 6, "learning_rate": 1e-2}
WRITTEN = {"groups": 4, "group_size": 4, "threshold": 0.1}
LEARNERS: dict[str, dict[str, Any]] = {
    "sft": {},
    "reward-model": {"labels": "drawn", "sampling_size": 8, "best_of": 2},
    "process-reward-model": {"labels": "rollouts", "rollouts": 2, "sampling_size": 8, "best_of": 2},
    "dpo": {"labels": "soft", "sampling_size": 8},
    "rejection-sampling": WRITTEN,
    "distillation": WRITTEN,
}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in LEARNERS),
    ("dpo", {"pairs": 12, "loss": "ipo"}),
    ("dpo", {"writer": "reference", "label_smoothing": 0.1}),
    ("reward-model", {"pairs": 12}),
    ("distillation", {"on_policy": True}),
    ("rejection-sampling", {"microbatch_size": 3}),
    ("dpo", {"policy": {"dtype": "bfloat16"}}),
    ("reward-model", {"policy": {"peft": "lora", "peft_rank": 2}}),
]
ENV = {"task": "addition", "digits": 1, "template": "plain"}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Two threads are many times slower for small networks on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model with random weights."""
    vocabulary = Vocabulary.for_task(make_task("addition", digits=1, template="plain", split="all"))
    folder = tmp_path_factory.mktemp("models") / "tiny"
    built = tiny_model(len(vocabulary), width=16, layers=1, heads=2, positions=64, seed=1)
    save_model(built, character_tokenizer(vocabulary), folder)
    return str(folder)


def make(name: str, model: str, seed: int = 0, **fields: Any) -> Any:
    env = gym.make("gridzero/TextGeneration-v0", **ENV)
    teacher = {"teacher": model} if name == "distillation" else {}
    policy = {"model": model, **fields.pop("policy", {})}
    settings = {**SMALL, **LEARNERS[name], **teacher, "policy": policy, **fields}
    return gridzero.agents.make(name, env, seed=seed, **settings)


def learn(agent: Any, updates: int) -> list[Any]:
    found = []
    for update in itertools.islice(agent.learn(), updates):
        metrics = {name: value for name, value in update.metrics.items() if name != "tokens_per_second"}
        found.append((update.step, metrics))
    return found


def check_names(agent: Any, found: Iterable[Mapping[str, float]]) -> None:
    """All metrics have names that the learner says beforehand."""
    for name in {name for metrics in found for name in metrics}:
        assert any(fnmatch.fnmatchcase(name, known) for known in agent.metric_names()), name


def weights(agent: Any) -> dict[str, Any]:
    scorer = getattr(agent, "scorer", agent.network)
    return {name: tensor.clone() for name, tensor in scorer.state_dict().items()}


@pytest.mark.parametrize(("name", "fields"), VARIANTS)
def test_it_learns_and_a_restored_learner_goes_on_exactly(
    name: str, fields: dict[str, Any], model: str, tmp_path: Path
) -> None:
    original, restored = make(name, model, 3, **fields), make(name, model, 3, **fields)
    before = weights(original)
    updates = learn(original, 2)
    assert 0 < updates[0][0] < updates[1][0]
    assert all(math.isfinite(value) for _, metrics in updates for value in metrics.values())
    check_names(original, (metrics for _, metrics in updates))
    half = fields.get("policy", {}).get("dtype") == "bfloat16"  # its master weights change, of which it shows little
    assert half or any(not torch.equal(tensor, before[key]) for key, tensor in weights(original).items())
    tree, arrays = flatten(original.state_dict())
    original.save_artifacts(tmp_path)
    restored.load_artifacts(tmp_path)
    restored.load_state_dict(unflatten(json.loads(json.dumps(tree)), arrays))
    assert learn(restored, 2) == learn(original, 2)
    for key, tensor in weights(original).items():
        assert torch.equal(tensor, weights(restored)[key]), key


@pytest.mark.parametrize("name", LEARNERS)
def test_seeds_decide_everything_and_acting_changes_nothing(name: str, model: str) -> None:
    watched, alone, other = make(name, model, 1), make(name, model, 1), make(name, model, 2)
    observations = ["1+2=\n"] * 2
    actions = watched.act(observations)
    assert len(actions) == 2
    assert watched.act(observations) == actions
    assert learn(watched, 2) == learn(alone, 2) != learn(other, 2)


def test_passes_take_each_once() -> None:
    taken = [passes(5, 0, position, 3) for position in range(0, 15, 3)]
    flat = [number for batch in taken for number in batch]
    for first in range(0, 15, 5):
        assert sorted(flat[first : first + 5]) == list(range(5))
    assert flat[:5] != flat[5:10]


def test_microbatches_give_the_gradient_of_the_whole(model: str) -> None:
    whole, parts = make("sft", model), make("sft", model, microbatch_size=3)
    for one, other in zip(learn(whole, 2), learn(parts, 2), strict=True):
        assert one[1] == pytest.approx(other[1], rel=1e-3)


def test_learned_prompts_and_prefixes_take_positions_from_examples(model: str) -> None:
    for kind, left in (("lora", 64), ("prompt", 60), ("prefix", 60)):
        tokens = {} if kind == "lora" else {"peft_tokens": 4}
        assert make("sft", model, policy={"peft": kind, **tokens}).max_length == left
    assert make("sft", model, max_length=10).max_length == 10


def test_a_teacher_reads_no_more_than_it_has_positions_for(model: str, tmp_path: Path) -> None:
    vocabulary = Vocabulary.for_task(make_task("addition", digits=1, template="plain", split="all"))
    short = tiny_model(len(vocabulary), width=16, layers=1, heads=2, positions=8)
    save_model(short, character_tokenizer(vocabulary), tmp_path / "short")
    assert make("distillation", model, teacher=str(tmp_path / "short"), on_policy=True).max_length == 8
    assert make("distillation", model, teacher=model, on_policy=True).max_length == 64


@pytest.fixture(scope="module")
def ending_in_padding(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model like GPT-2, which pads with its end token."""
    letters = [END, *sorted(make_task("addition", digits=1, template="plain", split="all").alphabet())]
    tokens = Tokenizer(models.WordLevel({letter: place for place, letter in enumerate(letters)}))
    tokens.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokens.decoder = decoders.Fuse()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=tokens, pad_token=END, eos_token=END)
    built = tiny_model(len(letters), width=16, layers=1, heads=2, positions=64, seed=1)
    for settings in (built.config, built.generation_config):
        settings.pad_token_id = settings.eos_token_id = 0
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(built, tokenizer, folder)
    return str(folder)


@pytest.mark.parametrize("name", ["reward-model", "process-reward-model"])
def test_what_a_models_own_padding_says_is_not_judged(name: str, model: str, tmp_path: Path) -> None:
    """The tokenizer pads with the end token, and the text of the model's own padding has no tokens."""
    shutil.copytree(model, tmp_path / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(tmp_path / "model")
    agent = make(name, str(tmp_path / "model"), best_of=20)
    assert (agent.network.pad, agent.network.silent) == (1, {0, 1})
    written = agent.act(["1+2=\n"] * 4)
    assert not any(mark in text for text in written for mark in (PAD, END))


@pytest.mark.parametrize("name", LEARNERS)
def test_the_end_token_may_be_the_padding_too(name: str, ending_in_padding: str) -> None:
    agent = make(name, ending_in_padding)
    assert (agent.network.pad, agent.network.end) == (0, (0,))
    updates = learn(agent, 2)
    assert all(math.isfinite(value) for _, metrics in updates for value in metrics.values())
    assert updates[0][1].get("truncations", 0.0) < 1
    assert not any(END in text for text in agent.act(["1+2=\n"] * 4, explore=True))


def test_a_run_is_a_model_and_a_reward(model: str, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    env = ["--env", "gridzero/TextGeneration-v0", "--env.task", "addition", "--env.digits", "1"]
    env += ["--env.template", "plain", "--evaluation-episodes", "4"]
    small = ["--minibatch-size", "8", "--episode-limit", "6"]
    begin = ["--policy.model", model]
    assert main(["train", "sft", *env, *begin, *small, "--steps", "80", "--run", "base"]) == 0
    begin = ["--policy.model", "base"]
    pairs = ["--labels", "drawn", "--sampling-size", "8", "--gradient-steps", "2", "--best-of", "2"]
    assert main(["train", "reward-model", *env, *begin, *small, *pairs, "--steps", "64", "--run", "rm"]) == 0
    steps = ["--labels", "rollouts", "--rollouts", "2", "--gradient-steps", "2", "--best-of", "2"]
    assert main(["train", "process-reward-model", *env, *begin, *small, *steps, "--steps", "16", "--run", "prm"]) == 0
    groups = ["--groups", "2", "--group-size", "4", "--episode-limit", "6"]
    rewards = ["--reward", "rm", "--reward", "prm=0.5"]
    assert main(["train", "grpo", *env, *begin, *groups, *rewards, "--steps", "16", "--run", "grpo"]) == 0
    rollout = ["--num-envs", "8", "--rollout-steps", "6", "--kl-coefficient", "0.1"]
    assert main(["train", "ppo", *env, *begin, *rollout, *rewards, "--steps", "16", "--run", "ppo"]) == 0
    taught = ["--teacher", "base", "--groups", "2", "--group-size", "4", "--threshold", "0.1"]
    assert main(["train", "distillation", *env, *begin, *small, *taught, "--steps", "16", "--run", "student"]) == 0
    assert main(["train", "--run", "ppo", "--resume", "--steps", "32"]) == 0
    for run in ("grpo", "ppo"):
        rows = [json.loads(line) for line in (tmp_path / "runs" / run / "metrics.jsonl").read_text().splitlines()]
        assert {"reward/rm", "reward/prm"} <= rows[-1].keys()
        assert rows[-1]["episode_return" if run == "grpo" else "reward/rm"] == pytest.approx(
            rows[-1]["reward/rm"] + (0.5 * rows[-1]["reward/prm"] if run == "grpo" else 0), abs=1e-4
        )
    capsys.readouterr()
    for wrong, message in (("base", "judges nothing"), ("nobody", "no reward is called 'nobody'")):
        assert main(["train", "grpo", *env, *begin, *groups, "--reward", wrong, "--steps", "16"]) == 2
        assert message in capsys.readouterr().err
    assert main(["train", "grpo", *env, "--policy.model", "nobody", *groups, "--steps", "16"]) == 2
    assert "no such run" in capsys.readouterr().err


@pytest.fixture(scope="module")
def talkative(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model that has letters which the other one has no tokens for."""
    vocabulary = Vocabulary.for_task(make_task("addition", digits=1, template="plain", split="all"))
    vocabulary = Vocabulary((*vocabulary.tokens, *"xyz"))
    folder = tmp_path_factory.mktemp("models") / "talkative"
    built = tiny_model(len(vocabulary), width=16, layers=1, heads=2, positions=64, seed=1)
    save_model(built, character_tokenizer(vocabulary), folder)
    return str(folder)


@pytest.mark.parametrize("judge", ["reward-model", "process-reward-model"])
@pytest.mark.parametrize("name", ["grpo", "rejection-sampling"])
def test_a_judge_that_cannot_read_the_model_is_refused_before_training(
    name: str, judge: str, model: str, talkative: str
) -> None:
    env = gym.make("gridzero/TextGeneration-v0", **ENV, rewards={make(judge, model): 1.0})
    gridzero.agents.make(name, env, policy={"model": model}, episode_limit=6)
    with pytest.raises(ValueError, match="cannot read what the model may write, such as 'x', 'y', 'z'"):
        gridzero.agents.make(name, env, policy={"model": talkative}, episode_limit=6)


def test_a_scorer_that_cannot_read_the_model_is_refused_before_a_search(model: str, talkative: str) -> None:
    scorer, own, other = make("reward-model", model), make("sft", model), make("sft", talkative)
    check_reads(scorer, own.network.tokenizer, "judge")
    with pytest.raises(ValueError, match="the scorer judge cannot read what the model may write, such as 'x', 'y'"):
        check_reads(scorer, other.network.tokenizer, "judge")


def test_a_student_is_not_taught_what_it_has_no_tokens_for(model: str, talkative: str) -> None:
    agent = make("distillation", model, teacher=talkative, threshold=-1.0, policy={"stop": "line"})
    assert len(agent.teacher.end) == len(agent.network.end) == 2  # they end alike
    agent.setup()
    (batch, *_) = agent.batches()
    assert batch.items
    assert agent.metrics["kept"] < 1


def test_the_reward_of_a_step_is_what_it_takes_from_the_least_probability(model: str) -> None:
    agent = make("process-reward-model", model)
    problem = agent.task.sample(np.random.default_rng(0))
    texts = ["1,2,3", "12", "", "1,,"]
    learn(agent, 1)
    rewards = agent(problem, texts)
    probabilities = agent.step_probabilities([agent.task.prompt(problem)] * 4, texts)
    assert [len(row) for row in probabilities] == [3, 1, 1, 3]
    for total, steps, own in zip(rewards.totals, rewards.steps, probabilities, strict=True):
        assert total + sum(step.value for step in steps) == pytest.approx(min(own), abs=1e-6)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("ppo", {"num_envs": 4, "rollout_steps": 8, "kl_coefficient": 0.1, "rescore": True}),
        ("grpo", {"episode_limit": 8, "groups": 2, "group_size": 2, "kl_coefficient": 0.1, "rescore": True}),
        ("reinforce", {"episode_limit": 8, "num_envs": 4}),
    ],
)
def test_metrics_of_policy_gradients_have_names_that_are_known(name: str, fields: dict[str, Any], model: str) -> None:
    env = gym.make("gridzero/TextGeneration-v0", **ENV, rewards="correct,brevity=0.1")
    agent = gridzero.agents.make(name, env, policy={"model": model}, **fields)
    check_names(agent, [next(agent.learn()).metrics])
    assert {name for name in agent.metric_names() if name.startswith("reward/")} == {"reward/brevity"}
