"""Collector of conversations with text environments."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from gridzero.agents.autoreset import with_final_info
from gridzero.agents.neural.batches import JudgedRollout, Rollout, ValuedRollout
from gridzero.agents.neural.collector import Collector
from gridzero.agents.neural.distributed import process_group
from gridzero.envs.text.scene import texts_and_pictures
from gridzero.llm_rl.decoding.sampling import Draws
from gridzero.llm_rl.policies.language_policy import LanguagePolicy, slices
from gridzero.llm_rl.rollouts.conversations import Conversation, as_rollout
from gridzero.llm_rl.rollouts.metrics import (
    CONVERSATION_METRICS,
    conversation_metrics,
    conversation_records,
    conversation_samples,
)

_ATTEMPTS = 100

Shown = tuple[list[str], list[Any]]


class ConversationCollector(Collector):
    """Collector of a :class:`LanguagePolicy` in environments of text; every rollout begins new conversations."""

    texts = True

    def __init__(self, vector: VectorEnv[Any, Any, Any], seed: int) -> None:
        super().__init__(vector, seed)
        self._metrics: dict[str, float] = {}
        self._samples: list[dict[str, Any]] = []
        self._completions: list[dict[str, Any]] = []

    def episodes(self, policy: LanguagePolicy, groups: int, size: int, limit: int, rng: np.random.Generator) -> Rollout:
        """Conversations in groups, each from one prompt; see :meth:`Collector.episodes`.

        Args:
            policy: writes.
            groups: how many prompts; of other processes that learn together, each collects its own number.
            size: conversations from each.
            limit: tokens that the model may write in one conversation.
            rng: draws the prompts and the tokens.
        """
        env: Any = self.vector
        seeds, keys = _streams(groups, size, rng)
        if groups == 0:
            return self._judged(as_rollout([], policy.pad), [])
        (shown, pictures), prompts, too_long = self._begin(policy, limit, seeds, size)
        conversations = [Conversation(prompt, limit) for prompt in prompts for _ in range(size)]
        outcomes: list[dict[str, Any]] = [{} for _ in conversations]
        began = time.perf_counter()
        active, copies = list(range(len(conversations))), size
        while active:
            actions = self._write(policy, conversations, active, copies, keys)
            before = shown
            observations, rewards, terminated, truncated, infos = env.step(actions)
            shown, pictures = texts_and_pictures(observations)
            done = np.asarray(terminated) | np.asarray(truncated)
            infos = with_final_info(infos, done)
            going: list[int] = []
            for i in active:
                conversation = conversations[i]
                conversation.text += actions[i]
                conversation.add_reward(float(rewards[i]))
                if conversation.ended and not done[i]:
                    answer = shown[i][len(before[i]) + len(actions[i]) :]
                    tokens = policy.renderer.reply(answer, pictures[i])
                    room = policy.room([*conversation.tokens, *tokens], limit - conversation.written)
                    if room > 0:
                        conversation.add_answer(tokens, answer, room)
                        going.append(i)
                        continue
                outcomes[i] = _row_of(infos, i)
                steps = outcomes[i].get("step_rewards")
                if steps:
                    conversation.place_rewards(steps, character_ends(policy, conversation))
            active, copies = going, 1
        seconds = time.perf_counter() - began
        self._metrics = conversation_metrics(
            conversations, outcomes, size, lambda text: len(policy.encode(text, begins=False))
        )
        if too_long:
            self._metrics["prompts_too_long"] = float(too_long)
        written = sum(conversation.written for conversation in conversations)
        self._metrics["tokens_per_second"] = written / max(seconds, 1e-9)
        self._samples = conversation_samples(conversations, outcomes, policy.tokenizer.decode)
        if self.keeps_completions:
            self._completions += conversation_records(conversations, outcomes, policy.tokenizer.decode)
        return self._judged(as_rollout(conversations, policy.pad), outcomes)

    def _begin(
        self, policy: LanguagePolicy, limit: int, seeds: NDArray[np.int64], size: int
    ) -> tuple[Shown, list[list[int]], int]:
        """Begin the first environments; prompts that leave less room than ``limit`` are replaced by others.

        Returns:
            Texts and pictures that all environments show, the prompts of groups of ``size``, and how many prompts were
            too long.
        """
        env: Any = self.vector
        count, too_long = len(seeds), 0
        mask = np.arange(env.num_envs) < count  # the others stand by
        for attempt in range(1, _ATTEMPTS):
            given = [*seeds.tolist(), *[None] * (env.num_envs - count)]
            shown = texts_and_pictures(env.reset(seed=given, options={"reset_mask": mask})[0])
            prompts = _prompts(policy, (shown[0][:count:size], shown[1][:count:size]))
            if policy.room(max(prompts, key=len), limit) >= limit:
                return shown, prompts, too_long
            long = np.array([policy.room(prompt, limit) < limit for prompt in prompts])
            too_long += int(long.sum())
            mask[:count] = long.repeat(size)
            for row in np.flatnonzero(mask)[::size]:
                seeds[row : row + size] = np.random.default_rng((int(seeds[row]), attempt)).integers(2**31)
        raise ValueError(f"of {_ATTEMPTS - 1} prompts none leaves room for {limit} tokens in the model's positions")

    def _write(
        self,
        policy: LanguagePolicy,
        conversations: Sequence[Conversation],
        active: Sequence[int],
        copies: int,
        keys: NDArray[np.uint64],
    ) -> tuple[str, ...]:
        """Write a completion in each active conversation.

        Args:
            policy: writes.
            conversations: all of them.
            active: numbers of those that go on.
            copies: so many next to each other have the same tokens so far.
            keys: of the draws of each conversation.

        Returns:
            The completions as actions of all environments; those that stand by are given empty ones.
        """
        prompts = [conversations[i].tokens for i in active[::copies]]
        limits = [conversations[i].room for i in active]
        draws = Draws(keys[[*active]], np.array([conversations[i].written for i in active]))
        new = policy.generate(prompts, copies, policy.sampling(max(limits)), draws, limits=limits)
        tokens, log_probs = new.tokens.cpu(), new.log_probs.cpu()
        lengths, ended = new.lengths.tolist(), new.ended.tolist()
        texts = policy.decode(tokens.numpy(), ended)
        actions = [""] * self.vector.num_envs
        for row, i in enumerate(active):
            actions[i] = texts[row]
            conversations[i].add_completion(tokens[row], log_probs[row], lengths[row], ended[row])
        return tuple(actions)

    def _judged(self, rollout: Rollout, outcomes: Sequence[Mapping[str, Any]]) -> Rollout:
        """The rollout with the verdicts, where the environment pays for them."""
        weights = getattr(getattr(self.vector.unwrapped, "rewards", None), "weights", {})
        if not weights.get("correct"):
            return rollout
        fields = {field.name: getattr(rollout, field.name) for field in dataclasses.fields(rollout)}
        return JudgedRollout(
            **fields, correct=torch.tensor([bool(one["correct"]) for one in outcomes], dtype=torch.bool)
        )

    def rollout(self, policy: LanguagePolicy, steps: int, rng: np.random.Generator) -> ValuedRollout:
        """A new conversation in each environment, of at most ``steps`` tokens; see :meth:`Collector.rollout`."""
        rollout = self.episodes(policy, self.vector.num_envs, 1, steps, rng)
        mask = rollout.mask
        with torch.no_grad():
            values = torch.cat(
                [policy.evaluate_with_values(rollout.steps[rows]).values for rows in slices(len(rollout))]
            )
        # Where the environment speaks, the value is that of the model's next token.
        last = mask.shape[1] - 1
        positions = torch.arange(last + 1).expand_as(mask)
        following = torch.where(mask, positions, last + 1).flip(1).cummin(dim=1).values.flip(1)
        padded = torch.nn.functional.pad(values.masked_fill(~mask, 0.0), (0, 2))
        after = torch.nn.functional.pad(following, (0, 1), value=last + 1)[:, 1:]
        ends = mask & (after > last)
        return ValuedRollout(
            rollout.steps,
            rollout.log_probs,
            rollout.rewards,
            terminated=ends,
            done=ends,
            env_steps=rollout.env_steps,
            values=padded.gather(1, following),
            next_values=padded.gather(1, after),
        )

    def metrics(self) -> dict[str, float]:
        """Accuracy, form, lengths and speed of the conversations collected last."""
        return dict(self._metrics)

    def metric_names(self) -> frozenset[str]:
        """Those of conversations, with the rewards that the environment has besides the verifier's."""
        rewards = getattr(self.vector, "rewards", None)
        if rewards is None:
            return CONVERSATION_METRICS
        return CONVERSATION_METRICS - {"reward/*"} | {f"reward/{name}" for name in rewards.others}

    def completions(self) -> Sequence[Mapping[str, Any]]:
        """All conversations since this was last asked, with their verdicts."""
        kept, self._completions = self._completions, []
        return kept

    def samples(self) -> Sequence[Mapping[str, Any]]:
        """A few of the conversations collected last, with their verdicts."""
        return list(self._samples)


def _prompts(policy: LanguagePolicy, shown: Shown) -> list[list[int]]:
    """Tokens of the prompts that texts and pictures are; a text that is shown several times is encoded once."""
    known: dict[str, list[int]] = {}
    for text, picture in zip(*shown, strict=True):
        if picture is None and text not in known:
            known[text] = policy.renderer.prompt(text)
    return [
        known[text] if picture is None else policy.renderer.prompt(text, picture)
        for text, picture in zip(*shown, strict=True)
    ]


def _streams(groups: int, size: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """(groups · size,) seeds of the conversations, equal in a group, and keys of their draws.

    All processes draw all numbers alike, and each takes its own.
    """
    group = process_group()
    counts = group.all_gather(groups)
    first, total = sum(counts[: group.rank]), sum(counts)
    seeds = rng.integers(2**31, size=total)[first : first + groups]
    keys = rng.integers(2**64, size=total * size, dtype=np.uint64)[first * size : (first + groups) * size]
    return np.repeat(seeds, size), keys


def character_ends(policy: LanguagePolicy, conversation: Conversation) -> list[int]:
    """End of each token since the prompt in the conversation's text, in characters."""
    ends: list[int] = []
    answers = iter(conversation.answers)
    begin = 0
    for own, run in itertools.groupby(zip(conversation.own, conversation.reply, strict=True), key=lambda pair: pair[0]):
        tokens = [token for _, token in run]
        if not own:
            begin += len(next(answers))
            ends += [begin] * len(tokens)
            continue
        # Nothing counts from the first silent token on.
        count = next((k for k, token in enumerate(tokens) if token in policy.silent), len(tokens))
        prefixes = [tokens[: min(k + 1, count)] for k in range(len(tokens))]
        texts = policy.tokenizer.batch_decode(prefixes, clean_up_tokenization_spaces=False)
        ends += [begin + len(text) for text in texts]
        begin = ends[-1]
    return ends


def _row_of(infos: Mapping[str, Any], i: int) -> dict[str, Any]:
    return {name: values[i] for name, values in infos.items() if not name.startswith("_") and len(values) > i}
