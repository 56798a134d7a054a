"""Files in TRL's dataset formats: what they become, and one line for whatever is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gridzero.__main__ import main
from gridzero.envs.tasks import make_task
from gridzero.envs.tasks.vocabulary import END, PAD, Vocabulary
from gridzero.llm_rl.data.jsonl import read_completions, read_preferences, read_steps, rendered
from gridzero.llm_rl.models.causal import tiny_model
from gridzero.llm_rl.models.pretrained import save_model
from gridzero.llm_rl.models.tokenizer import character_tokenizer
from gridzero.llm_rl.policies.language_options import LanguageOptions
from gridzero.llm_rl.policies.language_policy import LanguagePolicy

VOCABULARY = Vocabulary.for_task(make_task("addition", digits=1, template="plain", split="all"))


def build() -> Any:
    return tiny_model(len(VOCABULARY), width=16, layers=1, heads=2, positions=32), character_tokenizer(VOCABULARY)


@pytest.fixture(scope="module")
def policy() -> LanguagePolicy:
    return LanguagePolicy(*build(), LanguageOptions(), limit=8)


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_completions_end_and_prompts_are_only_read(policy: LanguagePolicy, tmp_path: Path) -> None:
    file = write(tmp_path / "sft.jsonl", {"prompt": "1+2=\n", "completion": "3"})
    (example,) = read_completions(file, policy, 32)
    assert example.tokens == [*VOCABULARY.encode("1+2=\n3"), VOCABULARY.end]
    assert example.completion == [False] * 5 + [True] * 2
    assert (example.prompt_length, example.learned) == (5, 2)


def test_the_first_token_of_a_text_without_a_prompt_is_only_read(policy: LanguagePolicy, tmp_path: Path) -> None:
    (example,) = read_completions(write(tmp_path / "sft.jsonl", {"prompt": "", "completion": "12"}), policy, 32)
    assert example.tokens == [*VOCABULARY.encode("12"), VOCABULARY.end]
    assert (example.prompt_length, example.learned) == (0, 2)


def test_preferences_may_be_soft(policy: LanguagePolicy, tmp_path: Path) -> None:
    row = {"prompt": "1+2=\n", "chosen": "3", "rejected": "4"}
    first, second = read_preferences(write(tmp_path / "p.jsonl", row, row | {"probability": 0.25}), policy, 32)
    assert (first.probability, second.probability) == (1.0, 0.25)
    assert first.chosen.tokens[-2:] == [*VOCABULARY.encode("3"), VOCABULARY.end]
    assert first.rejected.tokens[-2:] == [*VOCABULARY.encode("4"), VOCABULARY.end]


def test_steps_end_at_separators_and_at_the_end(policy: LanguagePolicy, tmp_path: Path) -> None:
    row = {"prompt": "1+2=\n", "completions": ["1", "23", "4"], "labels": [True, False, 1]}
    (example,) = read_steps(write(tmp_path / "s.jsonl", row), policy, ",", 32)
    assert example.example.tokens == [*VOCABULARY.encode("1+2=\n1,23,4"), VOCABULARY.end]
    assert [example.example.tokens[end] for end in example.ends] == [*VOCABULARY.encode(",,"), VOCABULARY.end]
    assert example.labels == [1.0, 0.0, 1.0]


def message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


CHAT = [message("user", "1+2=\n")]
SAID = [message("assistant", "3")]


def test_messages_are_read_as_the_texts_they_hold(policy: LanguagePolicy, tmp_path: Path) -> None:
    row = {"prompt": CHAT, "completion": SAID}
    longer = [*CHAT, *SAID, message("user", "1+1=\n")]
    rows = [row, {"prompt": longer, "completion": [message("assistant", "2")]}]
    rows.append({"prompt": [message("system", "1"), *CHAT], "completion": SAID})
    plain, turns, system = read_completions(write(tmp_path / "chat.jsonl", *rows), policy, 32)
    assert plain == rendered(policy, "1+2=\n", "3")
    end = VOCABULARY.end
    assert turns.tokens == [*VOCABULARY.encode("1+2=\n3"), end, *VOCABULARY.encode("1+1=\n2"), end]
    assert turns.completion == [False] * 12 + [True] * 2
    assert system.tokens == [*VOCABULARY.encode("1\n\n1+2=\n3"), end]
    (pair,) = read_preferences(
        write(tmp_path / "pairs.jsonl", {"prompt": CHAT, "chosen": SAID, "rejected": [message("assistant", "4")]}),
        policy,
        32,
    )
    assert pair.chosen == plain
    assert pair.rejected == rendered(policy, "1+2=\n", "4")


def test_a_chat_template_renders_messages_as_it_does_itself(tmp_path: Path) -> None:
    letters = "".join(sorted({*"COMPLETION", *"prompt", *"reply", *"0123456789+=\n"}))
    vocabulary = Vocabulary((PAD, END, *letters))
    tokenizer = character_tokenizer(vocabulary)
    tokenizer.split_special_tokens = False
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '=' if m.role == 'user' else '+' }}{{ m.content }}"
        "{{ eos_token if m.role == 'assistant' else '' }}{% endfor %}{% if add_generation_prompt %}{{ '+' }}{% endif %}"
    )
    model = tiny_model(len(vocabulary), width=16, layers=1, heads=2, positions=32)
    policy = LanguagePolicy(model, tokenizer, LanguageOptions(chat="on"), limit=8)
    turns = [*CHAT, *SAID, message("user", "1+1="), message("assistant", "2")]
    (example,) = read_completions(
        write(tmp_path / "chat.jsonl", {"prompt": turns[:3], "completion": turns[3:]}), policy, 32
    )
    whole = [message("user", "1+2="), *turns[1:]]
    text = tokenizer.apply_chat_template(whole, tokenize=False)
    assert example.tokens == tokenizer.encode(text, add_special_tokens=False)
    assert example.completion == [False] * (len(example.tokens) - 2) + [True] * 2


GOOD = {"prompt": "1+2=\n", "completion": "3"}
PAIR = {"prompt": "1+2=\n", "chosen": "3", "rejected": "4"}
STEPS = {"prompt": "1+2=\n", "completions": ["3"], "labels": [True]}
LONG = {"prompt": "1" * 32}
WRONG: list[tuple[str, bytes, str]] = [
    ("sft", b"", "is empty"),
    ("sft", b"\n\n", "is empty"),
    ("sft", json.dumps(GOOD).encode() + b'\n{"prompt"\n', "line 2: it is not JSON"),
    ("sft", b"[1]\n", "line 1: it is not a JSON object"),
    ("sft", b"\xff\n", "line 1: it is not UTF-8"),
    ("sft", b"[" * 100_000 + b"\n", "line 1: it is not JSON that can be read"),
    ("sft", b'{"prompt": "1"}\n', 'line 1: "completion" is missing'),
    ("sft", b'{"prompt": 1, "completion": "2"}\n', 'line 1: "prompt" must be a text'),
    ("sft", b'{"prompt": null, "completion": "2"}\n', 'line 1: "prompt" must be a text'),
    ("sft", b'{"prompt": "1", "completion": "\\ud800"}\n', "half a surrogate pair"),
    (
        "sft",
        json.dumps(GOOD).encode() + b"\n" + json.dumps(GOOD | LONG).encode(),
        "line 2: what there is to learn begins",
    ),
    ("sft", b'{"prompt": "", "completion": ""}\n', "line 1: there is nothing to learn"),
    ("sft", json.dumps(GOOD | {"prompt": "§"}).encode(), "has no tokens for"),
    ("sft", json.dumps({"prompt": CHAT, "completion": "3"}).encode(), "must both be texts, or both lists"),
    (
        "sft",
        json.dumps({"prompt": SAID, "completion": SAID}).encode(),
        "line 1: messages must be of user and assistant",
    ),
    ("sft", json.dumps({"prompt": [], "completion": SAID}).encode(), 'line 1: "prompt" has no message'),
    ("sft", json.dumps({"prompt": ["x"], "completion": SAID}).encode(), 'line 1: "prompt" must have messages of'),
    ("sft", json.dumps({"prompt": [message("tool", "x")], "completion": SAID}).encode(), "must have messages of"),
    ("sft", b'{"prompt": [{"role": "user"}], "completion": "3"}', 'line 1: "prompt: content" must be a text'),
    ("dpo", json.dumps(PAIR | {"chosen": SAID, "rejected": SAID, "prompt": CHAT}).encode(), "are equal"),
    ("dpo", json.dumps(PAIR | {"rejected": "3"}).encode(), 'line 1: "chosen" and "rejected" are equal'),
    ("dpo", json.dumps(GOOD).encode(), 'line 1: "chosen" is missing'),
    ("dpo", json.dumps(PAIR | {"prompt": ""}).encode(), 'line 1: "prompt" is empty, and nothing precedes'),
    ("dpo", json.dumps(PAIR | LONG).encode(), "line 1: what there is to learn begins with token 33, and 32 tokens"),
    ("dpo", json.dumps(PAIR | {"probability": 2}).encode(), 'line 1: "probability" must be'),
    ("reward-model", json.dumps(PAIR | {"probability": True}).encode(), 'line 1: "probability" must be'),
    (
        "reward-model",
        json.dumps(PAIR | LONG).encode(),
        "begins with token 33, and 31 tokens of an example",
    ),
    ("process-reward-model", json.dumps(STEPS | LONG).encode(), "begins with token 34, and 32 tokens"),
    ("process-reward-model", json.dumps(GOOD).encode(), 'line 1: "completions" is missing'),
    ("process-reward-model", json.dumps(STEPS | {"completions": []}).encode(), '"completions" has no step'),
    ("process-reward-model", json.dumps(STEPS | {"labels": []}).encode(), 'line 1: "labels" must be a list of 1'),
    ("process-reward-model", json.dumps(STEPS | {"labels": ["x"]}).encode(), 'line 1: "labels" must be true, false'),
    ("process-reward-model", json.dumps(STEPS | {"completions": "3"}).encode(), '"completions" must be a list'),
    ("process-reward-model", json.dumps(STEPS | {"completions": [3]}).encode(), '"completions" must be a text'),
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(*build(), folder)
    return str(folder)


@pytest.mark.parametrize(("learner", "content", "message"), WRONG)
def test_what_is_wrong_is_one_line_with_its_place(
    learner: str, content: bytes, message: str, saved: str, tmp_path: Path, capsys: Any
) -> None:
    file = tmp_path / "data.jsonl"
    file.write_bytes(content)
    env = ["--env", "gridzero/TextGeneration-v0", "--env.digits", "1", "--env.template", "plain"]
    run = ["--policy.model", saved, "--run", str(tmp_path / "run"), "--steps", "8"]
    assert main(["train", learner, *env, *run, "--data", str(file)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert "data.jsonl" in error
    assert not (tmp_path / "run").exists()


def test_a_file_that_is_not_there(saved: str, tmp_path: Path, capsys: Any) -> None:
    run = ["--policy.model", saved, "--run", str(tmp_path / "run"), "--data", str(tmp_path / "no.jsonl")]
    assert main(["train", "sft", "--env", "gridzero/TextGeneration-v0", *run]) == 2
    assert "cannot read" in capsys.readouterr().err
