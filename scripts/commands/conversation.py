"""A language model at work: conversations about held-out problems, token by token, each with its probability."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from gridzero.agents.action_masks import allowed_actions
from gridzero.envs.text.scene import texts_and_pictures

Picture = NDArray[np.uint8]
Kind = Literal["prompt", "model", "reply", "right", "wrong", "note"]
Show = Callable[[Sequence[tuple[int, "Segment"]]], None]

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"
_AMBER, _TINT = (255, 170, 0), 0.8


@dataclass(frozen=True)
class Segment:
    """A segment of a conversation, written by one speaker.

    Attributes:
        text: what is said.
        kind: who says it: the prompt, the model, the task's reply, or the verdict.
        probability: of what the model said, given all before it; of the others None.
        picture: (H, W, 3) uint8 that the model sees from here on, where it sees.
    """

    text: str
    kind: Kind
    probability: float | None = None
    picture: Picture | None = None


def converses(env: Any) -> bool:
    """Whether actions are text, so that a language model acts in the environment."""
    space = getattr(env, "single_action_space", None) or getattr(env, "action_space", None)
    return isinstance(space, gym.spaces.Text)


def spells(env: Any) -> bool:
    """Whether an action is a token of text."""
    return hasattr(env.unwrapped, "action_tokens")


def conversations(agent: Any, width: int, temperature: float, seed: int, max_turns: int | None = None) -> Conversations:
    """Conversations of a language model, or of any agent that writes token by token; see :class:`Conversations`."""
    kind = TokenConversations if spells(agent.env) else Conversations
    return kind(agent, width, temperature, seed, max_turns)


class Conversations:
    """Conversations side by side, each in an environment like the agent's, with problems held out of training.

    Args:
        agent: what writes.
        width: how many at once.
        temperature: at which tokens are drawn; 0: the most likely ones are taken.
        seed: decides the problems and the draws.
        max_turns: ends conversations after so many completions; the task's own limit by default.

    Attributes:
        attention: whether pictures are tinted by how much the model looks at their parts as it writes each token.
        begun, ended, right: how many conversations were begun, came to their end, and were right.
    """

    def __init__(self, agent: Any, width: int, temperature: float, seed: int, max_turns: int | None = None) -> None:
        from gridzero.agents.environments import remake_single

        held_out = getattr(agent.env.unwrapped, "evaluation_options", {})
        self.envs: list[Any] = [remake_single(agent.env, **held_out) for _ in range(width)]
        self.agent = agent
        self.attention = False
        self.temperature = temperature
        self.max_turns = math.inf if max_turns is None else max_turns
        self.begun = self.ended = self.right = 0
        problems, draws = np.random.SeedSequence(seed).spawn(2)
        self._problems, self._rng = problems, np.random.default_rng(draws)

    def _begin(self, width: int) -> list[Any]:
        """Begin a new round; return its first observations."""
        self.begun += width
        seeds = [int(child.generate_state(1)[0]) for child in self._problems.spawn(width)]
        return [env.reset(seed=seed)[0] for env, seed in zip(self.envs, seeds, strict=False)]

    def round(self, width: int, show: Show) -> None:
        """Hold a conversation in each of the first ``width`` environments, to their end.

        Args:
            width: at most as many as there are.
            show: is given what is new, with the numbers of the conversations, after each token.
        """
        policy = self.agent.network
        texts, pictures = texts_and_pictures(self._begin(width))
        active = [
            _Conversation(number, text, picture, policy.renderer.prompt(text, picture))
            for number, (text, picture) in enumerate(zip(texts, pictures, strict=True))
        ]
        show([(one.number, Segment(one.text, "prompt", picture=one.picture)) for one in active])
        turns = 0
        while active:
            turns += 1
            new = self._write(active, show)
            rows = zip(active, policy.decode(new.tokens.cpu().numpy(), new.ended.tolist()), strict=True)
            going_on = []
            for row, (one, text) in enumerate(rows):
                one.add(new.tokens[row, : int(new.lengths[row])].tolist())
                if self._reply(one, text, bool(new.ended[row]), turns >= self.max_turns, show):
                    going_on.append(one)
            active = going_on

    def _write(self, active: Sequence[_Conversation], show: Show) -> Any:
        """Have the model write a completion in each conversation, every token shown as it comes."""
        policy = self.agent.network
        readers = [_Reader(policy) for _ in active]

        def on_token(step: int, rows: Any, drawn: Any, log_probs: Any) -> None:
            news = []
            for row, token, log_prob in zip(rows.tolist(), drawn.tolist(), log_probs.tolist(), strict=True):
                one, before = active[row], readers[row].tokens
                segment = readers[row].read(token, log_prob)
                if segment is not None and self.attention:
                    looks = policy.attention(one.tokens + before)
                    segment = dataclasses.replace(segment, picture=tinted(one.picture, looks))
                news += [] if segment is None else [(one.number, segment)]
            show(news)

        limits = [max(1, policy.room(one.tokens, policy.limit - one.written)) for one in active]
        sampling = policy.sampling(max(limits), greedy=self.temperature == 0)
        if self.temperature:
            sampling = dataclasses.replace(sampling, temperature=self.temperature)
        prompts = [one.tokens for one in active]
        new = policy.generate(prompts, 1, sampling, self._rng, limits=limits, on_token=on_token)
        last = [(one.number, reader.rest()) for one, reader in zip(active, readers, strict=True)]
        show([(number, segment) for number, segment in last if segment is not None])
        return new

    def _reply(self, one: _Conversation, completion: str, ended: bool, last_turn: bool, show: Show) -> bool:
        """Show the reply to a completion that was written, or the verdict; whether the conversation goes on."""
        policy = self.agent.network
        before = len(one.text) + len(completion)
        observation, _, terminated, truncated, info = self.envs[one.number].step(completion)
        (one.text,), (one.picture,) = texts_and_pictures([observation])
        reply = one.text[before:]
        tokens = policy.renderer.reply(reply, one.picture) if reply else []
        full = policy.room(one.tokens + tokens, policy.limit - one.written) < 1
        if terminated or truncated or not ended or full or last_turn:
            self.ended += 1
            self.right += bool(info["correct"])
            show([(one.number, segment) for segment in verdict(info, bool(terminated), ended)])
            return False
        show([(one.number, Segment(reply, "reply", picture=one.picture))])
        one.tokens = one.tokens + tokens
        return True


@dataclass
class _Conversation:
    """A conversation under way.

    Attributes:
        number: of its environment.
        text: all that was said.
        picture: what the model sees now; None without pictures.
        tokens: what the model has read and written.
        written: how many of them it wrote itself.
    """

    number: int
    text: str
    picture: Any
    tokens: list[int]
    written: int = 0

    def add(self, tokens: list[int]) -> None:
        """Add tokens that the model wrote."""
        self.tokens = self.tokens + tokens
        self.written += len(tokens)


class TokenConversations(Conversations):
    """Conversations in :class:`~gridzero.envs.TokenGeneration`, where an action is a token.

    ``max_turns`` counts tokens. An agent whose probabilities are not known draws as it does when it explores, but for
    temperature 0.
    """

    def round(self, width: int, show: Show) -> None:
        """Hold a conversation in each of the first ``width`` environments, to their end."""
        observations = self._begin(width)
        if hasattr(self.agent, "reset_memory"):
            self.agent.reset_memory()
        texts = [env.unwrapped.text for env in self.envs[:width]]
        show([(i, Segment(text, "prompt")) for i, text in enumerate(texts)])
        tokens, active = 0, list(range(width))
        while active:
            tokens += 1
            actions, probabilities = self._act(np.stack(observations))  # the ended ones too: a memory has its row
            news, going_on = [], []
            for i in active:
                action, probability = actions[i], probabilities[i]
                world = self.envs[i].unwrapped
                written = world.vocabulary.decode([world.action_tokens[action]])
                observations[i], _, terminated, truncated, info = self.envs[i].step(action)
                news.append((i, Segment(written, "model", probability)))
                if terminated or truncated or tokens >= self.max_turns:
                    self.ended += 1
                    self.right += bool(info["correct"])
                    news += [(i, segment) for segment in verdict(info, bool(terminated))]
                    continue
                texts[i], before = world.text, texts[i] + written
                if len(texts[i]) > len(before):
                    news.append((i, Segment(texts[i][len(before) :], "reply")))
                going_on.append(i)
            show(news)
            active = going_on

    def _act(self, observations: Any) -> tuple[list[Any], list[float | None]]:
        """Choose actions; return them with their probabilities, where they are known."""
        masks, count = None, len(observations)
        if getattr(self.agent.config, "action_masks", False):
            masks = np.concatenate([allowed_actions(env, {}, int(env.action_space.n)) for env in self.envs[:count]])
        try:
            table = self.agent.action_probabilities(observations, action_masks=masks)
        except (AttributeError, ValueError):  # it has none
            given = {} if masks is None else {"action_masks": masks}
            return self.agent.act(observations, explore=self.temperature > 0, **given).tolist(), [None] * count
        if self.temperature == 0:
            actions = table.argmax(axis=1)
        else:
            with np.errstate(divide="ignore"):
                noise = self._rng.gumbel(size=table.shape)
                actions = (np.log(table) / self.temperature + noise).argmax(axis=1)
        return actions.tolist(), table[np.arange(count), actions].tolist()


def verdict(info: Mapping[str, Any], judged: bool = True, ended: bool = True) -> list[Segment]:
    """The verdict of the task at the end."""
    notes = [] if ended else ["cut off at the limit of tokens"]
    if not judged:
        return [
            Segment("\n– no verdict", "note"),
            Segment(" " + (notes or ["the conversation was cut off"])[0] + "\n", "note"),
        ]
    mark = Segment("\n✓ right", "right") if info["correct"] else Segment("\n✗ wrong", "wrong")
    answer = f" {shortened(info['answer'])}" if info["answer"] else ""
    if info["reason"] not in ("", "right"):
        notes.append(shortened(info["reason"]))
    return [
        dataclasses.replace(mark, text=mark.text + answer),
        Segment("".join(f"  {note}" for note in notes) + "\n", "note"),
    ]


def tinted(picture: Picture, looks: NDArray[np.float64]) -> Picture:
    """A picture with its parts in amber, the more the model looks at them.

    Args:
        picture: (H, W, 3).
        looks: (rows, columns), of the parts that the model divides it into.
    """
    rows, columns = looks.shape
    height, width = picture.shape[:2]
    part = looks[np.arange(height)[:, None] * rows // height, np.arange(width) * columns // width]
    share = _TINT * (part / max(1e-12, float(looks.max())))[..., None]
    mixed: Picture = np.rint(picture * (1 - share) + np.array(_AMBER) * share).astype(np.uint8)
    return mixed


def shortened(text: str, length: int = 80) -> str:
    r"""Shorten a text to one line of limited length.

    >>> shortened("one\ntwo", 6)
    'one t…'
    """
    line = " ".join(str(text).split())
    return line if len(line) <= length else line[: length - 1] + "…"


class _Reader:
    """A decoder of tokens as they come; a letter that takes several tokens comes with the last of them."""

    def __init__(self, policy: Any) -> None:
        self._policy = policy
        self._tokens: list[int] = []
        self._log_prob = 0.0
        self._known = self._from = 0  # tokens that are text already, and those before them that lead on to it

    def read(self, token: int, log_prob: float) -> Segment | None:
        """Decode a token; None if its letter takes more of them, or it ends the completion."""
        if token in self._policy.end:
            return None
        self._tokens.append(token)
        self._log_prob += log_prob
        return self._segment(whole=False)

    @property
    def tokens(self) -> list[int]:
        """Those so far."""
        return list(self._tokens)

    def rest(self) -> Segment | None:
        """Decode the tokens that are left, whole letters or not."""
        return self._segment(whole=True) if self._known < len(self._tokens) else None

    def _segment(self, whole: bool) -> Segment | None:
        # Decoded with the tokens before, because some tokenizers leave out a space at the beginning.
        before = self._decode(self._tokens[self._from : self._known])
        text = self._decode(self._tokens[self._from :])[len(before) :]
        if text.endswith(_UNFINISHED) and not whole:
            return None
        self._from, self._known = self._known, len(self._tokens)
        probability, self._log_prob = math.exp(min(0.0, self._log_prob)), 0.0
        return Segment(text, "model", probability)

    def _decode(self, tokens: list[int]) -> str:
        text: str = self._policy.tokenizer.decode(tokens, clean_up_tokenization_spaces=False)
        return text
