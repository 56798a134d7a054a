"""The language policy: what it scores is what it drew, whatever the lengths; conversations; GRPO and PPO on it."""

import itertools
import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

import gridzero
from gridzero.__main__ import main
from gridzero.agents import checkpoint, registry
from gridzero.agents.neural.objectives import group_advantages
from gridzero.envs.tasks import make_task
from gridzero.envs.tasks.reward import Rewards, StepReward
from gridzero.envs.tasks.templates import CutOff
from gridzero.envs.tasks.vocabulary import Vocabulary
from gridzero.llm_rl.decoding.sampling import Draws
from gridzero.llm_rl.models.causal import tiny_model
from gridzero.llm_rl.models.llama_files import as_transformers
from gridzero.llm_rl.models.pretrained import save_model
from gridzero.llm_rl.models.tokenizer import character_tokenizer
from gridzero.llm_rl.policies.language_options import LanguageOptions
from gridzero.llm_rl.policies.language_policy import LanguagePolicy
from gridzero.llm_rl.rollouts.collector import ConversationCollector
from gridzero.llm_rl.rollouts.conversations import joined

SMALL = {"width": 16, "layers": 2, "heads": 2, "positions": 512}


def small_policy(task="addition", *, critic=False, limit=24, seed=0, options=None, **task_options):
    vocabulary = Vocabulary.for_task(make_task(task, **task_options))
    model = tiny_model(len(vocabulary), **SMALL, seed=seed)
    tokenizer = character_tokenizer(vocabulary)
    return LanguagePolicy(model, tokenizer, options or LanguageOptions(), limit=limit, critic=critic)


def vector(num_envs, **options):
    return gym.make_vec(
        "gridzero/TextGeneration-v0", num_envs=num_envs, vectorization_mode="vector_entry_point", **options
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a tiny model for addition."""
    vocabulary = Vocabulary.for_task(make_task("addition"))
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(tiny_model(len(vocabulary), **SMALL), character_tokenizer(vocabulary), folder)
    return str(folder)


def test_prompts_that_leave_too_few_positions_are_refused_before_training(saved):
    with pytest.raises(ValueError, match=r"a prompt of \d+ tokens and 510 more exceed the model's 512 positions"):
        gridzero.agents.make(
            "grpo", gym.make("gridzero/TextGeneration-v0"), policy={"model": saved}, episode_limit=510, groups=2
        )


def test_a_model_that_is_given_learns_slowly_and_reinforced_at_a_constant_rate():
    env = gym.make("gridzero/TextGeneration-v0")
    for policy, reinforced, rate in (({}, (3e-4, "linear"), 3e-3), ({"model": "it"}, (1e-6, "constant"), 1e-5)):
        for agent in ("grpo", "ppo", "reinforce"):
            config = registry.default_config(agent, env, {"policy": policy})
            assert (config.learning_rate, config.learning_rate_schedule) == reinforced
        config = registry.default_config("sft", env, {"policy": policy})
        assert (config.learning_rate, config.learning_rate_schedule) == (rate, "cosine")


# Scores


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_scores_are_those_of_the_tokens_drawn(temperature):
    policy = small_policy("sorting", options=LanguageOptions(temperature=temperature))
    rollout = ConversationCollector(vector(12, task="sorting"), 0).episodes(policy, 4, 3, 24, np.random.default_rng(0))
    assert len(set(rollout.steps.observations["prompt_lengths"].tolist())) > 1
    scores = policy.evaluate_actions(rollout.steps)
    torch.testing.assert_close(scores.log_probs[rollout.mask], rollout.log_probs[rollout.mask], atol=1e-5, rtol=0)
    assert not scores.log_probs[~rollout.mask].any()
    some = rollout[torch.tensor([7, 2])]
    torch.testing.assert_close(
        policy.evaluate_actions(some.steps).log_probs, scores.log_probs[[7, 2]], atol=1e-5, rtol=0
    )


def test_scores_against_the_model_row_by_row():
    policy = small_policy("sorting", critic=True)
    torch.nn.init.normal_(policy.value_head.linear.weight)
    rollout = ConversationCollector(vector(6, task="sorting"), 0).episodes(policy, 3, 2, 16, np.random.default_rng(1))
    scores = policy.evaluate_with_values(rollout.steps)
    for i in range(6):
        prompt = rollout.steps.observations["prompts"][i, : rollout.steps.observations["prompt_lengths"][i]]
        said = rollout.steps.actions[i][rollout.mask[i]]
        theirs = as_transformers(policy.model)
        output = theirs(torch.cat([prompt, said]).unsqueeze(0), output_hidden_states=True)
        expected = output.logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        chosen = expected.gather(1, said.unsqueeze(1)).squeeze(1)
        torch.testing.assert_close(scores.log_probs[i][rollout.mask[i]], chosen, atol=1e-5, rtol=0)
        entropies = -(expected.exp() * expected).sum(-1)
        torch.testing.assert_close(scores.entropies[i][rollout.mask[i]], entropies, atol=1e-5, rtol=0)
        values = policy.value_head(output.hidden_states[-1][0, len(prompt) - 1 : -1])
        torch.testing.assert_close(scores.values[i][rollout.mask[i]], values, atol=1e-5, rtol=0)


def test_members_of_a_group_have_one_prompt_and_draws_of_their_own():
    policy = small_policy()
    rollout = ConversationCollector(vector(12), 0).episodes(policy, 3, 4, 24, np.random.default_rng(2))
    prompts = rollout.steps.observations["prompts"].reshape(3, 4, -1)
    assert (prompts == prompts[:, :1]).all()
    assert len(torch.unique(prompts[:, 0], dim=0)) == 3
    assert len(torch.unique(rollout.steps.actions, dim=0)) > 3


def test_prompts_and_completions_are_joined_without_a_gap():
    policy = small_policy("sorting")
    rollout = ConversationCollector(vector(8, task="sorting"), 0).episodes(policy, 8, 1, 16, np.random.default_rng(3))
    tokens, first, _ = joined(rollout.steps, policy.pad)
    for i, row in enumerate(tokens.tolist()):
        prompt = rollout.steps.observations["prompts"][i, : first[i]].tolist()
        said = rollout.steps.actions[i][rollout.mask[i]].tolist()
        assert row[: len(prompt) + len(said)] == prompt + said
        assert set(row[len(prompt) + len(said) :]) <= {policy.pad}


# Conversations


def walk_policy():
    task = make_task("grid-walk", height=2, width=2)
    policy = small_policy("grid-walk", limit=40, height=2, width=2)
    return task, policy


def test_what_the_task_answers_is_part_of_the_sequence_but_not_of_what_is_learnt(monkeypatch):
    """Scripted completions in a grid walk: the tokens are the whole conversation, the mask the model's own part."""
    task, policy = walk_policy()
    envs = vector(1, task="grid-walk", height=2, width=2)
    envs.reset(seed=[5])
    problem = envs.unwrapped.problems[0]
    said: list[str] = []

    read: list[list[int]] = []

    def scripted(model, prompts, copies, sampling, *, end, pad, rng, limits=None, on_token=None):
        from gridzero.llm_rl.decoding.generate import Completions

        read.extend(prompts)
        said.append(task.template.completion("", task.answer(problem, said)))
        tokens = [*policy.encode(said[-1], begins=False), policy.end[0]]
        size = torch.tensor([len(tokens)])
        return Completions(torch.tensor([tokens]), torch.zeros(1, len(tokens)), size, torch.tensor([True]))

    monkeypatch.setattr("gridzero.llm_rl.policies.language_policy.generate", scripted)
    seeds = iter([np.array([5])])

    class Fixed:
        def integers(self, high, size=None, dtype=None):
            return np.zeros(size, dtype=dtype) if dtype is not None else next(seeds)

    rollout = ConversationCollector(envs, 0).episodes(policy, 1, 1, 400, Fixed())
    assert len(said) > 1, "the problem needs more than one move for this test"
    expected, own = [], []
    for i, text in enumerate(said):
        tokens = [*policy.encode(text, begins=False), policy.end[0]]
        expected += tokens
        own += [True] * len(tokens)
        reply = task.reply(problem, said[: i + 1])
        if reply is not None:
            heard = policy.encode(reply, begins=False)
            expected += heard
            own += [False] * len(heard)
    assert rollout.steps.actions[0].tolist() == expected
    assert rollout.mask[0].tolist() == own
    assert rollout.rewards.sum() == pytest.approx(1.1)
    assert rollout.rewards[0, -1] == pytest.approx(1.1)
    assert int(rollout.env_steps[0]) == len(said)
    # In evaluation, which shows the policy texts, it reads the very tokens that it read in learning.
    learning, turns = read.copy(), len(said)
    read.clear()
    said.clear()
    policy.limit = 400
    env = gym.make("gridzero/TextGeneration-v0", task="grid-walk", height=2, width=2)
    shown, _ = env.reset(seed=5)
    ended = False
    while not ended:
        (action,), _ = policy.act([shown], None, None)
        shown, _, ended, _, _ = env.step(action)
    assert len(said) == turns
    assert read == learning


@pytest.mark.parametrize("template", ["tags", "plain"])
def test_evaluation_reads_the_tokens_of_training_whatever_ends_a_turn(template):
    """A completion may end in a blank, in no tag, or at the limit: its own tokens are remembered, not found again."""
    policy = small_policy("grid-walk", limit=12, height=2, width=2, template=template)
    options = {"task": "grid-walk", "height": 2, "width": 2, "template": template}
    rollout = ConversationCollector(vector(16, **options), 0).episodes(policy, 16, 1, 12, np.random.default_rng(3))
    numbers = np.random.default_rng(3)
    seeds, streams = numbers.integers(2**31, size=16), numbers.integers(2**64, size=16, dtype=np.uint64)
    prompts, lengths = rollout.steps.observations["prompts"], rollout.steps.observations["prompt_lengths"]
    turns, generate = [], type(policy).generate
    for i in range(16):
        env = gym.make("gridzero/TextGeneration-v0", **options)
        shown, _ = env.reset(seed=int(seeds[i]))
        conversation, ended, said = [], False, 0
        while not ended:
            written = sum(map(len, conversation[1::2]))

            def drawn(prompts, copies, sampling, rng, *, limits, i=i, written=written, conversation=conversation):
                new = generate(
                    policy, prompts, copies, sampling, Draws(streams[[i]], np.array([written])), limits=limits
                )
                conversation += [prompts[0], new.tokens[0].tolist()]
                return new

            policy.generate = drawn
            (action,), _ = policy.act([shown], None, np.random.default_rng(0))
            said += action != ""
            shown, _, ended, _, _ = env.step(action)
        learnt = (
            prompts[i, : lengths[i]].tolist()
            + rollout.steps.actions[i][: int(rollout.mask[i].nonzero().max()) + 1].tolist()
        )
        assert conversation[-2] + conversation[-1] == learnt
        turns.append(len(conversation) // 2)
    assert max(turns) > 1


def test_a_neighbour_near_its_limit_cuts_no_other_conversation():
    """Each has its own limit: in whatever batch it is, it has the same tokens."""
    policy = small_policy("grid-walk", limit=20, height=2, width=2)
    envs = vector(24, task="grid-walk", height=2, width=2)
    together = ConversationCollector(envs, 0).episodes(policy, 24, 1, 20, np.random.default_rng(3))
    numbers = np.random.default_rng(3)
    seeds, streams = numbers.integers(2**31, size=24), numbers.integers(2**64, size=24, dtype=np.uint64)

    class One:
        def __init__(self, i):
            self.i = i

        def integers(self, high, size=None, dtype=None):
            return (seeds if dtype is None else streams)[self.i : self.i + 1]

    assert int(together.env_steps.max()) > 1
    for i in range(24):
        alone = ConversationCollector(vector(1, task="grid-walk", height=2, width=2), 0).episodes(
            policy, 1, 1, 20, One(i)
        )
        assert together.steps.actions[i][together.mask[i]].tolist() == alone.steps.actions[0][alone.mask[0]].tolist()


# Metrics


def test_metrics_are_those_of_the_verdicts():
    policy = small_policy()
    envs = vector(8)
    collector = ConversationCollector(envs, 0)
    collector.episodes(policy, 2, 4, 24, np.random.default_rng(4))
    metrics = collector.metrics()
    assert metrics["accuracy"] == 0.0  # random weights
    assert metrics["pass_at_4"] == metrics["majority_at_4"] == 0.0
    assert 0 < metrics["completion_length"] <= 24
    assert {"prompt", "completion", "correct", "reason"} == set(collector.samples()[0])


@pytest.mark.parametrize("task", ["addition", "grid-walk"])
def test_episodes_are_the_same_in_every_way_of_resetting(task: str) -> None:
    found = []
    for mode in AutoresetMode:
        policy = small_policy(task)
        collector = ConversationCollector(vector(8, task=task, autoreset_mode=mode), 0)
        rollout = collector.episodes(policy, 2, 4, 24, np.random.default_rng(4))
        found.append((rollout, collector.samples(), collector.metrics()))
    assert task != "addition" or all(sample["reason"] for sample in found[0][1])
    for rollout, samples, metrics in found[1:]:
        torch.testing.assert_close(rollout.rewards, found[0][0].rewards, rtol=0, atol=0)
        torch.testing.assert_close(rollout.steps.actions, found[0][0].steps.actions, rtol=0, atol=0)
        assert samples == found[0][1]
        same = metrics.keys() - {"tokens_per_second"}
        assert {name: metrics[name] for name in same} == {name: found[0][2][name] for name in same}


def test_rewards_of_steps_land_on_the_tokens_of_their_span():
    """Each step is one character of the text, and pays its place: so does each token, and the sum is the reward."""

    def places(problem, completions):
        steps = [[StepReward(float(k + 1), k, k + 1) for k in range(len(text))] for text in completions]
        return Rewards([0.5] * len(completions), steps)

    policy = small_policy("grid-walk", limit=40, height=2, width=2)
    envs = vector(24, task="grid-walk", height=2, width=2, turns=2, rewards={places: 2.0})
    collector = ConversationCollector(envs, 0)
    rollout = collector.episodes(policy, 12, 2, 300, np.random.default_rng(6))
    judged = (rollout.rewards.sum(dim=1) > 0).nonzero().squeeze(-1).tolist()  # the others were cut off
    assert judged
    for i in judged:
        reply = rollout.steps.actions[i][: int(rollout.mask[i].nonzero().max()) + 1].tolist()
        expected, position, silent = [0.0] * len(reply), 0, False
        for k, token in enumerate(reply):
            turned = k > 0 and bool(rollout.mask[i, k]) != bool(rollout.mask[i, k - 1])
            silent = (silent and not turned) or token in (*policy.end, policy.pad)  # what follows is no text
            for _ in "" if silent else policy.tokenizer.decode([token]):
                position += 1
                owner = max(j for j in range(k + 1) if bool(rollout.mask[i, j]))
                expected[owner] += 2.0 * position
        expected[-1] += 2.0 * 0.5
        torch.testing.assert_close(rollout.rewards[i, : len(reply)], torch.tensor(expected), atol=1e-3, rtol=0)
    assert collector.metrics()["reward/places"] > 0


def test_what_was_cut_off_and_what_ends_a_line():
    """A limit leaves a completion unended; with ``stop`` a new line ends it as the end token does, everywhere."""
    rows = np.array([[14, 14, 1], [14, 14, 14], [14, 7, 14]])
    for stop, ends in (("end", [True, False, False]), ("line", [True, False, True])):
        policy = small_policy(digits=1, template="plain", options=LanguageOptions(stop=stop), limit=3)
        line = policy.encode("\n", begins=False)[0]
        rows[2, 1] = line
        assert (line in policy.end) == (stop == "line")
        assert policy.renderer.completion("7")[-1] == (line if stop == "line" else policy.tokenizer.eos_token_id)
        texts = policy.decode(rows, ends)
        assert [isinstance(text, CutOff) for text in texts] == [not end for end in ends]
        assert ("\n" in texts[2]) == (stop == "end")
        collector = ConversationCollector(vector(64, digits=1, template="plain"), 0)
        collector.keeps_completions = True
        collector.episodes(policy, 64, 1, 3, np.random.default_rng(0))
        records = collector.completions()
        assert {record["ended"] for record in records} == {True, False}
        assert all(record["ended"] or not record["well_formed"] for record in records)
        assert stop == "end" or not any("\n" in record["completion"] for record in records)


# Learning


@pytest.mark.parametrize("variant", ["grpo", "dr_grpo", "dapo", "gspo", "rloo", "cispo"])
def test_each_variant_makes_a_rewarded_token_likelier(variant, saved):
    """The first token is rewarded for being an even digit: every variant raises its probability from about a half."""
    agent = gridzero.agents.make(
        "grpo",
        vector(64, template="plain", digits=1),
        variant=variant,
        groups=8,
        group_size=8,
        episode_limit=1,
        learning_rate=3e-3,
        learning_rate_schedule="constant",
        policy={"model": saved},
        seed=1,
    )
    envs = agent.vector
    digits = [agent.network.encode(str(d), begins=False)[0] for d in (0, 2, 4, 6, 8)]
    step = envs.unwrapped.step

    def rewarded(actions):
        shown, _, terminated, truncated, infos = step(actions)
        rewards = np.array([float(text[:1] in "02468" and text != "") for text in actions])
        return shown, rewards, terminated, truncated, infos

    envs.unwrapped.step = rewarded
    agent.collector.vector = envs.unwrapped
    before = probability(agent, digits)
    for _, _update in zip(range(12), agent.learn(), strict=False):
        pass
    assert probability(agent, digits) > before + 0.1


def probability(agent, tokens):
    """Of these first tokens, over some prompts."""
    rollout = agent.collector.episodes(agent.network, 8, 8, 1, np.random.default_rng(9))
    first = rollout.steps.observations["prompt_lengths"]
    with torch.no_grad():
        logits = agent.network.model(rollout.steps.observations["prompts"]).logits
    rows = torch.arange(len(first))
    return float(logits[rows, first - 1].softmax(-1)[:, tokens].sum(-1).mean())


def collected(agent, updates):
    found = []
    for update in agent.learn():
        found.append({name: v for name, v in update.metrics.items() if name != "tokens_per_second"})
        if len(found) == updates:
            return found
    raise AssertionError


FIELDS = {
    "grpo": {"groups": 4, "group_size": 4, "kl_coefficient": 0.1, "episode_limit": 12, "learning_rate": 1e-2},
    **{
        f"grpo-{kind}": {
            "groups": 4,
            "group_size": 4,
            "kl_coefficient": 0.1,
            "episode_limit": 12,
            "learning_rate": 1e-2,
            "reference_updates": 3,
        }
        for kind in ("lora", "prefix", "prompt", "ia3", "bottleneck")
    },
    "ppo": {"num_envs": 8, "rollout_steps": 12, "kl_coefficient": 0.1, "learning_rate": 1e-2, "epochs": 2},
}


@pytest.mark.parametrize("name", [*FIELDS, "grpo-bfloat16", "ppo-bfloat16"])
def test_interrupted_and_resumed_is_uninterrupted(name, saved, tmp_path):
    kind = name.removesuffix("-bfloat16")
    policy = {"model": saved} | ({"peft": kind.split("-")[1]} if "-" in kind else {})
    policy |= {"dtype": "bfloat16"} if "bfloat16" in name else {}

    def agent():
        env = gym.make("gridzero/TextGeneration-v0", rewards="correct,form=0.5")
        return gridzero.agents.make(kind.split("-")[0], env, seed=3, policy=policy, **FIELDS[kind])

    whole = collected(agent(), 4)
    assert collected(agent(), 4) == whole
    first = agent()
    begun = collected(first, 2)
    checkpoint.save(first, tmp_path / "2")
    second = checkpoint.load(tmp_path / "2")
    assert begun + collected(second, 2) == whole
    types = {parameter.dtype for parameter in second.network.model.parameters()}
    assert types == {torch.bfloat16 if "bfloat16" in name else torch.float32}  # a critic's head makes no other of it


def test_old_log_probabilities_are_scored_again(saved):
    """As in learning, whatever acted; otherwise those of acting stay."""
    for rescore in (False, True):
        agent = gridzero.agents.make(
            "grpo", "gridzero/TextGeneration-v0", policy={"model": saved}, rescore=rescore, **FIELDS["grpo"]
        )
        rollout = agent._episodes(4)
        other, distance = agent._rescored(rollout.replace(log_probs=rollout.log_probs + 0.25))
        expected = rollout.log_probs if rescore else rollout.log_probs + 0.25
        torch.testing.assert_close(other.log_probs[rollout.mask], expected[rollout.mask], atol=1e-5, rtol=0)
        assert distance == ({"rescoring_distance": pytest.approx(0.25, abs=1e-5)} if rescore else {})
        assert ("rescoring_distance" in next(agent.learn()).metrics) is rescore


def test_every_completion_is_logged_once_and_cut_off_with_the_metrics(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["train", "grpo", "--env", "gridzero/TextGeneration-v0", "--policy.model", saved, "--run", "logged"]
    words += ["--groups", "2", "--group-size", "3", "--episode-limit", "8", "--log-completions"]
    words += ["--evaluation-episodes", "2"]
    assert main([*words, "--steps", "12"]) == 0
    path = tmp_path / "runs" / "logged" / "completions.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["step"] for row in rows] == [6] * 6 + [12] * 6
    assert {"prompt", "completion", "reward", "tokens", "ended", "correct", "reason"} <= set(rows[0])
    path.write_text(path.read_text() + json.dumps(rows[0] | {"step": 18}) + "\n")  # it was killed after this
    assert main(["train", "--run", "logged", "--resume", "--steps", "18"]) == 0
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["step"] for row in rows] == [6] * 6 + [12] * 6 + [18] * 6


def test_completions_of_networks_cannot_be_logged():
    with pytest.raises(ValueError, match="log_completions is for language models"):
        gridzero.agents.make("grpo", "gridzero/GridWorld-v0", log_completions=True)


@pytest.mark.parametrize("kind", ["lora", "prefix"])
def test_the_reference_of_trained_adapters_is_the_model_with_them(kind, saved, tmp_path):
    """Loaded again as a model, adapters go on learning; the policy that they made is the reference."""
    first = gridzero.agents.make(
        "grpo", "gridzero/TextGeneration-v0", policy={"model": saved, "peft": kind}, **FIELDS["grpo"]
    )
    for parameter in first.network.trained():
        torch.nn.init.normal_(parameter.data, std=0.3)
    save_model(first.network.model, first.network.tokenizer, tmp_path / "adapters")
    policy = {"model": str(tmp_path / "adapters")}
    agent = gridzero.agents.make("grpo", "gridzero/TextGeneration-v0", policy=policy, **FIELDS["grpo"])
    assert sum(p.numel() for p in agent.network.trained()) == sum(p.numel() for p in first.network.trained())
    rollout = agent.collector.episodes(agent.network, 4, 4, 12, agent.rng)
    initial = agent.network.evaluate_actions(rollout.steps).log_probs.detach()
    torch.testing.assert_close(first.network.evaluate_actions(rollout.steps).log_probs, initial)
    for parameter in agent.network.trained():
        parameter.data += 0.5 * torch.randn_like(parameter)
    torch.testing.assert_close(agent.network.reference_log_probs(rollout.steps), initial)
    assert not torch.allclose(agent.network.evaluate_actions(rollout.steps).log_probs, initial, atol=1e-2)
    with pytest.raises(ValueError, match="has adapters already, which go on learning: leave out"):
        gridzero.agents.make("grpo", "gridzero/TextGeneration-v0", policy=policy | {"peft": kind}, **FIELDS["grpo"])


def test_flat_groups_are_left_out_without_changing_the_gradient(saved):
    """Rewards 0 and 1 in one group alone: the update with the flat groups is the same."""

    def after(skip):
        agent = gridzero.agents.make(
            "grpo", "gridzero/TextGeneration-v0", policy={"model": saved}, skip_flat_groups=skip, variant="dr_grpo",
            **{**FIELDS["grpo"], "kl_coefficient": 0.0},
        )  # fmt: skip
        rollout = agent._episodes(agent.config.groups)
        rewards = torch.zeros_like(rollout.rewards)
        rewards[0, 0] = 1.0
        rollout = rollout.replace(rewards=rewards)
        advantages = agent._advantages(rollout)
        expected = group_advantages(torch.tensor([1.0, 0, 0, 0]), "centred")
        torch.testing.assert_close(advantages[:4, 0], expected)
        assert not advantages[4:].any()
        agent._update(rollout, advantages)
        return agent.optimiser.vector.detach().clone()

    torch.testing.assert_close(after(True), after(False), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["grpo", "ppo"])
def test_passes_over_microbatches_add_up(name, saved):
    def gradients(size):
        env = gym.make("gridzero/TextGeneration-v0", rewards="correct,form=0.5")
        fields = FIELDS[name] | {"learning_rate": 1e-6, "microbatch_size": size}
        agent = gridzero.agents.make(name, env, seed=3, policy={"model": saved}, **fields)
        (update,) = itertools.islice(agent.learn(), 1)
        return agent.optimiser.gradient.clone(), update.metrics

    whole, metrics = gradients(None)
    sliced, of_sliced = gradients(20)
    torch.testing.assert_close(sliced, whole, atol=1e-5, rtol=1e-3)
    assert of_sliced.keys() == metrics.keys()
    for term in metrics.keys() - {"tokens_per_second"}:
        assert of_sliced[term] == pytest.approx(metrics[term], rel=1e-3, abs=1e-5), term


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("grpo", {"hidden": (8,)}, "hidden is of networks"),
        ("grpo", {"policy": {"modle": "x"}}, "did you mean model"),
        ("grpo", {"policy": {"model": "nowhere"}}, "there is no model"),
        ("grpo", {"policy": {"temperature": 0}}, "temperature must be above 0"),
        ("grpo", {"policy": {"device": "tpu"}}, "device must be one of"),
        ("grpo", {"variant": "gropo"}, "variant must be one of"),
        ("grpo", {"policy": {"peft": "loar"}}, "peft must be one of lora, prefix, prompt, ia3, bottleneck, not 'loar'"),
        ("grpo", {"policy": {"peft_rank": 2}}, "peft_rank is of --policy.peft lora or bottleneck"),
        ("grpo", {"policy": {"peft": "prefix", "peft_rank": 2}}, "peft_rank is of --policy.peft lora or bottleneck"),
        ("grpo", {"policy": {"peft": "ia3", "peft_tokens": 2}}, "peft_tokens is of --policy.peft prefix or prompt"),
    ],
)
def test_what_cannot_be_is_refused(name, fields, message):
    with pytest.raises(ValueError, match=message):
        gridzero.agents.make(name, "gridzero/TextGeneration-v0", **fields)


def test_networks_have_no_policy_options():
    with pytest.raises(ValueError, match="no options of their own"):
        gridzero.agents.make("grpo", "CartPole-v1", policy={"model": "x"})
