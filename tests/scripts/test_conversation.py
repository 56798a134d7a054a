"""Watching a language model: what is shown is what it writes, each token with its probability, then the verdict."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

import gridzero
from gridzero.__main__ import main
from gridzero.agents import Update
from gridzero.commands import report, transcripts
from gridzero.commands.conversation import Segment, _Reader, conversations
from gridzero.envs.rendering import colors
from gridzero.envs.tasks import TASKS, TEMPLATES, Vocabulary, make_task
from gridzero.envs.tasks.task import held_out
from gridzero.llm_rl.decoding import generate as rollout
from gridzero.llm_rl.models.causal import tiny_model
from gridzero.llm_rl.models.pretrained import save_model
from gridzero.llm_rl.models.tokenizer import character_tokenizer
from gridzero.llm_rl.policies.language_options import LanguageOptions
from gridzero.plotting import figure

LIMIT = 10


def learner(folder: Any, task: str = "addition", **options: Any) -> Any:
    """An agent whose language model has random weights."""
    vocabulary = Vocabulary.for_task(make_task(task, **options))
    if not folder.exists():
        model = tiny_model(len(vocabulary), width=16, layers=1, heads=2, positions=400)
        save_model(model, character_tokenizer(vocabulary), folder)
    env = gym.make("gridzero/TextGeneration-v0", task=task, **options)
    sizes = {"groups": 2, "group_size": 2, "episode_limit": LIMIT}
    return gridzero.agents.make("grpo", env, policy={"model": str(folder)}, **sizes)


@pytest.fixture
def agent(tmp_path: Any) -> Any:
    return learner(tmp_path / "model", digits=1)


@pytest.fixture
def run(agent: Any, tmp_path: Any) -> str:
    gridzero.agents.save(agent, tmp_path / "run")
    return str(tmp_path / "run")


def told(agent: Any, width: int = 1, temperature: float = 0.0, seed: int = 0) -> list[list[Segment]]:
    """The segments of one round of conversations."""
    found: list[list[Segment]] = [[] for _ in range(width)]
    conversations(agent, width, temperature, seed).round(width, lambda news: [found[i].append(p) for i, p in news])
    return found


def text(segments: list[Segment], kind: str) -> str:
    return "".join(segment.text for segment in segments if segment.kind == kind)


def test_what_is_shown_is_what_the_agent_answers_to_problems_held_out(agent: Any) -> None:
    for segments in told(agent, width=3):
        prompt = text(segments, "prompt")
        assert text(segments, "model") == agent.act((prompt,))[0]
        assert held_out("addition", str(sorted(map(int, prompt.strip("=\n").split("+")))))


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_probabilities_are_those_of_a_forward_pass(agent: Any, temperature: float) -> None:
    (segments,) = told(agent, temperature=temperature)
    policy = agent.network
    prompt = policy.encode(text(segments, "prompt"))
    written = [policy.encode(segment.text)[0] for segment in segments if segment.kind == "model"]
    with torch.no_grad():
        logits = policy.model(input_ids=torch.tensor([prompt + written])).logits[0]
    wanted = (logits / (temperature or 1.0)).softmax(-1)[len(prompt) - 1 : -1][range(len(written)), written]
    shown = [segment.probability for segment in segments if segment.kind == "model"]
    np.testing.assert_allclose(shown, wanted.numpy(), rtol=1e-4)


def test_draws_depend_on_the_seed_alone(agent: Any) -> None:
    assert told(agent, 2, 1.0, seed=3) == told(agent, 2, 1.0, seed=3)
    assert told(agent, 2, 1.0, seed=3) != told(agent, 2, 1.0, seed=4)


def written(*completions: str) -> Any:
    """In place of the rollout engine: writes these, one after the other."""
    remaining = iter(completions)

    def generate(model: Any, prompts: Any, copies: int, sampling: Any, *, on_token: Any, **others: Any) -> Any:
        tokens = [*generate.vocabulary.encode(next(remaining)), 1]  # type: ignore[attr-defined]
        for step, token in enumerate(tokens):
            on_token(step, torch.tensor([0]), torch.tensor([token]), torch.tensor([math.log(0.25)]))
        rows = torch.tensor([tokens])
        return rollout.Completions(rows, torch.zeros(rows.shape), torch.tensor([len(tokens)]), torch.tensor([True]))

    return generate


def test_the_task_answers_until_the_target_is_reached(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"height": 2, "width": 2, "kind": "obstacles", "density": 0.0, "template": "plain"}
    agent = learner(tmp_path / "walker", "grid-walk", **options)
    task = agent.env.unwrapped.task
    walk = written("U", "L", "D", "R", "U", "L", "D", "R", "U", "L", "D", "R")
    walk.vocabulary = Vocabulary.for_task(task)
    agent.network.limit = 100
    monkeypatch.setattr("gridzero.llm_rl.policies.language_policy.generate", walk)
    (segments,) = told(agent)
    turns = len(text(segments, "model"))
    assert turns > 1
    assert text(segments, "reply").count("S") == turns - 1  # a map after each move but the last
    assert "✓ right" in text(segments, "right")
    assert all(segment.probability == pytest.approx(0.25) for segment in segments if segment.kind == "model")


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_tokens_of_any_agent_are_shown_with_their_probabilities(temperature: float) -> None:
    env = gym.make("gridzero/TokenGeneration-v0", digits=1, max_tokens=12)
    agent = gridzero.agents.make("ppo", env, num_envs=2, hidden=(8,))
    vocabulary = env.unwrapped.vocabulary  # type: ignore[attr-defined]
    for segments in told(agent, 4, temperature):
        prompt = text(segments, "prompt")
        ids = vocabulary.encode(prompt)
        for segment in segments:
            if segment.kind != "model":
                continue
            table = agent.action_probabilities(np.array([ids + [vocabulary.pad] * (64 - len(ids))]))[0]
            tokens = vocabulary.encode(segment.text) or [vocabulary.pad, vocabulary.end]  # both end it
            assert any(segment.probability == pytest.approx(table[token], rel=1e-5) for token in tokens)
            if temperature == 0:
                assert segment.probability == pytest.approx(table.max(), rel=1e-5)
            ids += tokens
        assert segments[-2].kind in ("right", "wrong")
        assert held_out("addition", str(sorted(map(int, prompt.strip("=\n").split("+")))))


class Bytes:
    """A tokenizer whose tokens are bytes."""

    def decode(self, tokens: list[int], **options: Any) -> str:
        return bytes(tokens).decode("utf-8", "replace")


def test_letters_of_several_tokens_come_whole_with_their_joint_probability() -> None:
    reader = _Reader(SimpleNamespace(tokenizer=Bytes(), end=(0,)))
    segments = [reader.read(token, math.log(0.5)) for token in [*"a☃b".encode(), 0]]
    assert [segment.text for segment in segments if segment] == ["a", "☃", "b"]
    assert [segment.probability for segment in segments if segment] == pytest.approx([0.5, 0.125, 0.5])
    assert reader.rest() is None
    assert reader.read(0xE2, 0.0) is None
    rest = reader.rest()
    assert rest is not None
    assert rest.text == "\N{REPLACEMENT CHARACTER}"


def test_not_a_terminal_gets_plain_text(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", run, "--episodes", "3", "--columns", "2"]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert shown.count("✗ wrong") + shown.count("✓ right") == 3
    assert "of 3 right" in shown


def terminal(**options: Any) -> Console:
    return Console(force_terminal=True, color_system="truecolor", record=True, width=40, height=12, **options)


NEWS = [(0, Segment("1+1=\n", "prompt")), (0, Segment("2", "model", 0.9)), (0, Segment("\n✓ right 2", "right"))]


def test_a_terminal_gets_colours_and_underlined_doubts(capsys: pytest.CaptureFixture[str]) -> None:
    with transcripts.Stream(terminal(), fps=100, delay=0) as transcript:
        transcript.show(NEWS)
        transcript.show([(0, Segment("3", "model", 0.1))])
    shown = capsys.readouterr().out
    red, green, blue = colors.likelihood(0.9)
    assert f"38;2;{red};{green};{blue}m2" in shown
    red, green, blue = colors.likelihood(0.1)
    assert f"4;38;2;{red};{green};{blue}m3" in shown


def test_columns_stand_side_by_side_and_scroll(capsys: pytest.CaptureFixture[str]) -> None:
    with transcripts.Columns(terminal(), 2, fps=100, delay=0) as transcript:
        transcript.show([*NEWS, (1, Segment("5+5=\n", "prompt"))])
        assert any("1+1=" in line and "5+5=" in line for line in capsys.readouterr().out.splitlines())
        transcript.show([(0, Segment("\n" * 30 + "end", "note"))])
        shown = capsys.readouterr().out
    assert "end" in shown
    assert "1+1=" not in shown


def test_a_picture_shows_tokens_in_their_colours(tmp_path: Any) -> None:
    path = tmp_path / "a.png"
    with transcripts.Recording(str(path), 1, 30, 0.0, "title") as transcript:
        transcript.show([(0, Segment("m", "prompt")), (0, Segment("mmmm", "model", 0.01))])
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    below_title = pixels[image.size[0] * 50 :]
    assert (below_title == colors.likelihood(0.01)).all(axis=1).any()
    assert not (below_title == colors.likelihood(1.0)).all(axis=1).any()


def test_a_recording_has_a_frame_for_each_token_and_rests_at_the_verdict(run: str) -> None:
    assert main(["watch", run, "--record", "a.gif", "--episodes", "1", "--fps", "10", "--delay", "2"]) == 0
    with Image.open("a.gif") as image:
        times = []
        for i in range(image.n_frames):
            image.seek(i)
            times.append(image.info["duration"])
    assert max(times) >= 2000
    assert 2100 < sum(times) <= 2100 + 100 * (LIMIT + 2)


def test_ctrl_c_is_an_end_like_any_other(
    run: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gridzero.llm_rl.policies.language_policy.generate", interrupted)
    assert main(["watch", run, "--record", "a.gif"]) == 0
    assert "0 of 0 right" in capsys.readouterr().out
    with Image.open("a.gif") as image:
        assert image.n_frames == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--temperature", "-1"], "temperature must be at least 0"),
        (["--columns", "0"], "columns must be at least 1"),
        (["--columns", "1000000000"], "--columns needs at least"),
        (["--delay", "nan"], "delay must be at least 0"),
        (["--learn"], "train"),
        (["--record", "a.avi"], ".gif, .mp4 or .png"),
    ],
)
def test_errors_are_one_line(run: str, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert main(["watch", run, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


TRAIN = ["train", "grpo", "--env", "gridzero/TextGeneration-v0", "--env.digits", "1"]
SIZES = ["--groups", "2", "--group-size", "2", "--episode-limit", str(LIMIT), "--evaluation-episodes", "2"]


@pytest.fixture
def trained(agent: Any) -> Any:
    return lambda *more: main([*TRAIN, "--policy.model", "model", *SIZES, "--steps", "12", *more])


def test_training_ends_with_completions_and_their_verdicts(trained: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert trained("--run", "r", "--watch") == 0
    shown, live = capsys.readouterr()
    assert "success rate" in shown
    last = [json.loads(line) for line in (Path("runs") / "r" / "samples.jsonl").read_text().splitlines()][-1]
    assert last["prompt"] + last["completion"] in shown
    assert 2 <= shown.count("✗ wrong") + shown.count("✓ right") <= 3
    assert live.count("after 4 steps") == 1
    assert "✗ wrong" in live or "✓ right" in live


def test_training_does_not_show_completions_unasked(trained: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert trained("--run", "r") == 0
    assert "after 4 steps" not in capsys.readouterr().err


def test_long_completions_are_cut_in_the_middle_beside_the_bar() -> None:
    sample = {"prompt": "p", "completion": "a" * 500 + "b" * 500, "correct": False, "reason": "why\nso"}
    shown = report.sample_text(sample, 100).plain
    assert shown == "p" + "a" * 50 + " … " + "b" * 50 + "\n✗ wrong  why so\n"
    assert "…" not in report.sample_text(sample).plain


def test_the_bar_tells_accuracy_and_length_of_the_thoughts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    metrics = {"episode_return": 0.1, "accuracy": 0.53, "thought_length": 17.4}
    with report.Progress(10, None) as progress:
        progress.show(Update(1, metrics))
        assert progress._bar is not None
        assert "accuracy 0.53  thought length 17.4" in progress._bar.tasks[0].description


def metrics_of(*runs_: str) -> None:
    for number, name in enumerate(runs_):
        rows = [
            {"step": 4 * k, "accuracy": k / 10 + number / 20, "form": 0.9, "thought_length": 5.0 * k}
            for k in range(1, 5)
        ]
        (Path("runs") / name / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_two_panels_for_language_models(
    trained: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in ("0", "1"):
        assert trained("--run", f"r{seed}", "--seed", seed) == 0
    metrics_of("r0", "r1")
    figures = []
    original = figure.canvas
    monkeypatch.setattr(figure, "canvas", lambda *size: figures.append(original(*size)) or figures[-1])
    assert main(["plot", "r0", "r1"]) == 0
    assert "accuracy, form, thought_length of 2 runs" in capsys.readouterr().out
    left, right = figures[0].axes
    accuracy, form = left.get_lines()
    np.testing.assert_allclose(accuracy.get_ydata(), [0.125, 0.225, 0.325, 0.425])
    np.testing.assert_allclose(form.get_ydata(), [0.9] * 4)
    assert accuracy.get_color() == form.get_color()
    np.testing.assert_allclose(right.get_lines()[0].get_ydata(), [5, 10, 15, 20])
    assert "grpo on TextGeneration-v0, addition" in left.get_title()
    assert "2 seeds" in figures[0].get_supxlabel()
    assert main(["plot", "r0", "--metric", "form"]) == 0
    assert len(figures[1].axes) == 1


def test_tasks_templates_and_options_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    tasks = {row["name"]: row["options"] for row in found["tasks"]}
    assert set(TASKS) <= set(tasks)
    assert tasks["addition"] == "digits 3"
    assert {row["name"] for row in found["templates"]} == set(TEMPLATES)
    fields = LanguageOptions.__dataclass_fields__
    policies = {row["option of language models"]: row for row in found["policies"]}
    assert set(policies) == {f"--policy.{name.replace('_', '-')}" for name in fields}
    assert all(row["what it is"] for row in policies.values())
    assert policies["--policy.temperature"]["default"] == "1.0"


def test_listing_does_not_wait_for_torch() -> None:
    code = "import sys; from gridzero.__main__ import main; main(['list']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


ENVIRONMENTS = ["gridzero/TextGeneration-v0", "gridzero/TokenGeneration-v0"]


def play(env: str, lines: str, monkeypatch: pytest.MonkeyPatch, *more: str) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    return main(["play", env, "--seed", "3", *more])


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_person_answers(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    env = gym.make("gridzero/TextGeneration-v0", digits=1)
    env.reset(seed=3)
    first = env.unwrapped.problem  # type: ignore[attr-defined]
    env.reset()
    second = env.unwrapped.problem  # type: ignore[attr-defined]
    formed = f"<think></think> <answer>{second.reference}</answer>"
    assert play(name, f"{first.reference}\n\n{formed}\nnonsense\n+\n", monkeypatch, "--env.digits", "1") == 0
    shown = capsys.readouterr().out
    refused = "the character 'n' is not in the vocabulary"
    assert (refused in shown) == (name == "gridzero/TokenGeneration-v0")
    assert first.question in shown
    assert shown.count("✓ right") == 2
    wrong = 1 + (refused not in shown)
    assert shown.count("✗ wrong") == wrong
    assert f"you got 2 of {2 + wrong} right" in shown


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_person_walks(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--env.task", "grid-walk", "--env.height", "2", "--env.width", "2", "--env.density", "0.0"]
    assert play(name, "U\nL\nD\nR\n" * 3, monkeypatch, *small) == 0
    shown = capsys.readouterr().out
    assert "it reaches the target" in shown
    assert "a right answer" not in shown


@pytest.mark.parametrize("task", ["grid-path", "grid-walk"])
def test_a_person_is_shown_the_map_of_a_picture_and_in_color_the_picture(
    task: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = []
    for pixels in ("0", "8"):
        small = ["--env.task", task, "--env.height", "2", "--env.width", "3", "--env.pixels", pixels]
        assert play(ENVIRONMENTS[0], "U\nL\nD\nR\n" * 3, monkeypatch, *small) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert play(ENVIRONMENTS[0], "U\n", monkeypatch, *small) == 0
    assert "▀" in capsys.readouterr().out
