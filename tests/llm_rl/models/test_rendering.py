"""Conversations as tokens: chat templates, system prompts, and that a model reads the same everywhere."""

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

import gridzero  # noqa: F401  (registers the environments)
from gridzero.__main__ import main
from gridzero.envs.tasks import Vocabulary, make_task
from gridzero.llm_rl.data.examples import demonstrate
from gridzero.llm_rl.integrations.task_exports import rows
from gridzero.llm_rl.models.causal import tiny_model
from gridzero.llm_rl.models.pretrained import save_model
from gridzero.llm_rl.models.rendering import ChatRenderer, PlainRenderer
from gridzero.llm_rl.models.tokenizer import character_tokenizer
from gridzero.llm_rl.policies.language_options import LanguageOptions
from gridzero.llm_rl.policies.language_policy import LanguagePolicy
from gridzero.llm_rl.rollouts.collector import ConversationCollector

CHATML = (
    "{% for message in messages %}{{ '[' + message['role'] + ']' + message['content'] + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
)


def chatting(task: Any, template: str | None = CHATML) -> PreTrainedTokenizerFast:
    """The characters of a task, those of roles, and a chat template; marks in a text are single tokens, as in chats."""
    vocabulary = Vocabulary.of(task.alphabet() + "[]systemuerasitanqpolCOMPLETION.Be brief")
    tokenizer = character_tokenizer(vocabulary)
    tokenizer.split_special_tokens = False
    tokenizer.chat_template = template
    return tokenizer


def policy_of(task: Any, **options: Any) -> LanguagePolicy:
    tokenizer = chatting(task)
    model = tiny_model(len(tokenizer), width=16, layers=1, heads=2, positions=512)
    return LanguagePolicy(model, tokenizer, LanguageOptions(**options), task=task, limit=30)


def test_a_conversation_is_what_the_template_makes_of_its_messages() -> None:
    task = make_task("grid-walk", height=2, width=2, system="Be brief.")
    renderer = policy_of(task).renderer
    assert isinstance(renderer, ChatRenderer)
    tokens = (
        renderer.prompt("ab\n") + renderer.completion("rest") + renderer.reply("\nto us\n") + renderer.completion("it")
    )
    turns = [("system", "Be brief."), ("user", "ab"), ("assistant", "rest"), ("user", "to us"), ("assistant", "it")]
    whole = renderer.tokenizer.apply_chat_template(
        [{"role": role, "content": content} for role, content in turns], tokenize=True, return_dict=False
    )
    assert tokens == whole[:-1]  # the template has a new line after the last


def test_demonstrations_rollouts_evaluation_and_exports_have_one_prompt() -> None:
    system = "Be brief."
    task = make_task("grid-walk", height=2, width=2, system=system)
    policy = policy_of(task)
    options = {"task": "grid-walk", "height": 2, "width": 2, "system": system}
    envs = gym.make_vec("gridzero/TextGeneration-v0", 4, vectorization_mode="vector_entry_point", **options)
    rollout = ConversationCollector(envs, 0).episodes(policy, 4, 1, 30, np.random.default_rng(0))
    asked: list[list[int]] = []
    generate = policy.generate

    def recorded(prompts: Any, *arguments: Any, **keywords: Any) -> Any:
        asked.extend(prompts)
        return generate(prompts, *arguments, **keywords)

    policy.generate = recorded  # type: ignore[method-assign]
    shown, _ = envs.reset(seed=np.random.default_rng(0).integers(2**31, size=4).tolist())
    policy.act(shown, None, None)
    lengths = rollout.steps.observations["prompt_lengths"]
    rolled = [rollout.steps.observations["prompts"][i, : lengths[i]].tolist() for i in range(4)]
    assert asked == rolled
    problem = task.sample(np.random.default_rng(1))
    example = demonstrate(task, np.random.default_rng(1), policy.renderer)
    first = example.tokens[: example.prompt_length]
    assert first == policy.renderer.prompt(task.prompt(problem))
    single = make_task("addition", digits=1, system=system)
    exported = rows(single, 1, conversational=True)[0]["prompt"]
    renderer = policy_of(single).renderer
    assert isinstance(renderer, ChatRenderer)
    text = renderer.tokenizer.apply_chat_template(exported, tokenize=False, add_generation_prompt=True)
    assert text == renderer.tokenizer.decode(renderer.prompt(single.prompt(single.sample(np.random.default_rng(0)))))


def test_which_prompts_go_through_the_template() -> None:
    plain, r1_zero = make_task("addition"), make_task("addition", template="r1-zero")
    assert isinstance(policy_of(plain).renderer, ChatRenderer)
    assert isinstance(policy_of(plain, chat="off").renderer, PlainRenderer)
    assert isinstance(policy_of(r1_zero).renderer, PlainRenderer)  # a conversation of its own
    assert isinstance(policy_of(r1_zero, chat="on").renderer, ChatRenderer)
    tokenizer = character_tokenizer(Vocabulary.for_task(plain))
    model = tiny_model(len(tokenizer), width=16, layers=1, heads=2, positions=64)
    with pytest.raises(ValueError, match="no chat template"):
        LanguagePolicy(model, tokenizer, LanguageOptions(chat="on"), limit=8)


@pytest.mark.parametrize(
    "template", ["{{ raise_exception('no system role') }}", "{% for m in messages %}x{% endfor %}", "{%"]
)
def test_templates_that_fail_are_one_line(template: str) -> None:
    task = make_task("addition", system="Be brief.")
    tokenizer = chatting(task, template)
    model = tiny_model(len(tokenizer), width=16, layers=1, heads=2, positions=64)
    with pytest.raises(ValueError, match=r"chat template .*--policy\.chat off"):
        LanguagePolicy(model, tokenizer, LanguageOptions(), task=task, limit=8)


def test_a_system_prompt_without_a_template_is_a_paragraph_and_has_letters() -> None:
    task = make_task("addition", digits=1, system="Sei kurz!")
    tokenizer = character_tokenizer(Vocabulary.for_task(task))
    model = tiny_model(len(tokenizer), width=16, layers=1, heads=2, positions=64)
    policy = LanguagePolicy(model, tokenizer, LanguageOptions(), task=task, limit=8)
    assert tokenizer.decode(policy.renderer.prompt("1+1=\n")) == "Sei kurz!\n\n1+1=\n"


def test_training_through_a_template_from_the_command_line(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    task = make_task("addition", digits=1, system="Be brief.")
    tokenizer = chatting(task)
    save_model(tiny_model(len(tokenizer), width=16, layers=1, heads=2, positions=256), tokenizer, tmp_path / "model")
    words = ["train", "grpo", "--env", "gridzero/TextGeneration-v0", "--env.digits", "1", "--env.system", "Be brief."]
    words += ["--policy.model", str(tmp_path / "model"), "--groups", "2", "--group-size", "2", "--steps", "8"]
    words += ["--episode-limit", "12", "--evaluation-episodes", "4", "--run", "chat"]
    assert main(words) == 0, capsys.readouterr().err
    config = json.loads((tmp_path / "runs/chat/config.json").read_text())
    assert config["environment"]["kwargs"]["system"] == "Be brief."
    sample = json.loads((tmp_path / "runs/chat/samples.jsonl").read_text().splitlines()[0])
    assert "[system]Be brief." in json.dumps(sample)


def test_prompts_beyond_the_positions_are_replaced_and_counted() -> None:
    """Arithmetic asks in 7 or in 9 tokens; where only the short ones leave room, all are short."""
    tokenizer = character_tokenizer(Vocabulary.for_task(make_task("arithmetic")))
    model = tiny_model(len(tokenizer), width=16, layers=1, heads=2, positions=8 + 8)
    policy = LanguagePolicy(model, tokenizer, LanguageOptions(), limit=8)
    envs = gym.make_vec("gridzero/TextGeneration-v0", 16, vectorization_mode="vector_entry_point", task="arithmetic")
    collector = ConversationCollector(envs, 0)
    rollout = collector.episodes(policy, 8, 2, 8, np.random.default_rng(0))
    assert rollout.steps.observations["prompt_lengths"].tolist() == [7] * 16
    assert torch.equal(rollout.steps.observations["prompts"][::2], rollout.steps.observations["prompts"][1::2])
    assert collector.metrics()["prompts_too_long"] > 0
    again = ConversationCollector(envs, 0).episodes(policy, 8, 2, 8, np.random.default_rng(0))
    assert torch.equal(rollout.steps.observations["prompts"], again.steps.observations["prompts"])
    with pytest.raises(ValueError, match="none leaves room for 14 tokens"):
        collector.episodes(policy, 8, 2, 14, np.random.default_rng(0))


def test_default_limits_by_the_positions_of_the_model(tmp_path: Path) -> None:
    env = gym.make("gridzero/TextGeneration-v0", digits=1)
    for positions, expected in ((8192, 512), (2048, 512), (256, None)):
        folder = tmp_path / str(positions)
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"max_position_embeddings": positions}))
        found = LanguagePolicy.defaults("GRPO", env, {"policy": {"model": str(folder)}})["episode_limit"]
        usual = LanguagePolicy.defaults("GRPO", env, {})["episode_limit"]
        assert found == (expected or usual)
