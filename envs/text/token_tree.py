"""Tree of all possible completions, and its exact model; and what keeps a completion well-formed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gridzero.envs.mdp import FiniteMDP
from gridzero.envs.tasks import Problem, Template, Vocabulary
from gridzero.envs.tasks.reward import RewardSum
from gridzero.envs.tasks.templates import TAGS

IntArray = NDArray[np.int64]

MOST_COMPLETIONS = 500_000
"""A verdict on each takes some microseconds."""
_REMEMBERED = 8
_models: dict[tuple[object, ...], FiniteMDP] = {}


class TokenTree:
    """The beginnings of completions, numbered like a heap: those that go on from n are w·n + 1 … w·n + w.

    Args:
        rewards: of a task of one turn.
        problems: P of them.
        vocabulary: the tokens.
        action_tokens: (A,) the token of each action; w of them write something, the others end a completion.
        max_tokens: T; completions of T tokens are over.

    Attributes:
        nodes: M, the beginnings that can go on: 1 + w + … + w^(T-1).
        num_states: P·M, and one more where all is over.

    Raises:
        ValueError: when there are too many completions for a verdict on each; it says how many.
    """

    def __init__(
        self,
        rewards: RewardSum,
        problems: Sequence[Problem],
        vocabulary: Vocabulary,
        action_tokens: IntArray,
        max_tokens: int,
    ) -> None:
        self.paid, self.task, self.problems, self.vocabulary = rewards, rewards.task, problems, vocabulary
        self.action_tokens, self.max_tokens = action_tokens, max_tokens
        self.writing = np.flatnonzero(action_tokens > vocabulary.end)
        self.width = len(self.writing)
        self.order = np.full(len(action_tokens), -1, dtype=np.int64)
        self.order[self.writing] = np.arange(self.width)
        self.nodes, final = 0, 1
        for _ in range(max_tokens):
            self.nodes, final = self.nodes + final, final * self.width
            if len(problems) * (self.nodes + final) > MOST_COMPLETIONS:
                digits = math.log10(len(problems)) + max_tokens * math.log10(self.width)
                raise ValueError(
                    f"{len(problems):,} problems with up to {max_tokens:,} tokens out of {self.width} have about "
                    f"10^{digits:.0f} completions; a model takes at most {MOST_COMPLETIONS:,}: lower distinct or "
                    "max_tokens, or say which characters are writable"
                )
        self.num_states = len(problems) * self.nodes + 1

    def child(self, nodes: IntArray, actions: IntArray) -> IntArray:
        """The beginnings after writing (N,) actions."""
        return np.asarray(self.width * nodes + 1 + self.order[actions])

    def states(self, problems: IntArray, nodes: IntArray) -> IntArray:
        """(N,) states, from the numbers of problems and beginnings."""
        return np.asarray(problems * self.nodes + nodes)

    def actions_to(self, node: int) -> list[int]:
        """The actions that write a beginning."""
        actions = []
        while node:
            node, last = divmod(node - 1, self.width)
            actions.append(int(self.writing[last]))
        return actions[::-1]

    def texts(self) -> list[str]:
        """The text of every beginning and, after the M that go on, of every completion of T tokens."""
        tokens = [self.vocabulary.tokens[token] for token in self.action_tokens[self.writing]]
        texts, level = [""], [""]
        for _ in range(self.max_tokens):
            level = [text + token for text in level for token in tokens]
            texts += level
        return texts

    def rewards(self) -> NDArray[np.float64]:
        """(P, M + w^T) rewards of each of :meth:`texts` as a completion."""
        texts = self.texts()
        episodes = [[text] for text in texts]
        judged = [[judgement.total for judgement in self.paid.judge(problem, episodes)] for problem in self.problems]
        return np.array(judged, dtype=np.float64)

    @property
    def mdp(self) -> FiniteMDP:
        """The exact model, remembered for all environments that are alike."""
        template = self.task.template
        shape = (self.max_tokens, self.vocabulary.tokens, tuple(self.action_tokens.tolist()))
        name = (self.task.name, template, tuple(map(repr, self.problems)), shape, tuple(self.paid.weights.items()))
        if name not in _models:
            while len(_models) >= _REMEMBERED:
                del _models[next(iter(_models))]
            _models[name] = self._model()
        return _models[name]

    def _model(self) -> FiniteMDP:
        problems, nodes, actions = len(self.problems), self.nodes, len(self.action_tokens)
        over = self.num_states - 1
        paid = self.rewards()
        children = self.width * np.arange(nodes)[:, None] + 1 + self.order  # (M, A)
        ends = self.order < 0
        final = ends | (children >= nodes)
        judged = np.where(
            ends, np.arange(nodes)[:, None], children
        )  # whose reward is paid, where it is the last action
        following = np.where(final, -1, children) + np.arange(problems)[:, None, None] * nodes
        successors = np.full((self.num_states, actions, 1), over, dtype=np.int32)
        successors[:over, :, 0] = np.where(final, over, following).reshape(over, actions)
        rewards = np.zeros((self.num_states, actions))
        rewards[:over] = np.where(final, paid[:, judged], 0.0).reshape(over, actions)
        terminal = np.arange(self.num_states) == over
        start = np.zeros(self.num_states)
        start[np.arange(problems) * nodes] = 1 / problems
        return FiniteMDP(successors, np.ones((self.num_states, actions, 1)), rewards, terminal, start)


def well_formed_continuations(template: Template, vocabulary: Vocabulary) -> tuple[IntArray, NDArray[np.bool_]]:
    """Automaton of the form of a completion, which each token moves on.

    Row k of K is: k of the tags are written, in their order; the last row: the form is broken.

    Returns:
        following: (K, V), the row after each token.
        allowed: (K, V), what a well-formed completion can go on with; in the last row everything but padding.

    Example:
        >>> from gridzero.envs.tasks import find_template
        >>> vocabulary = Vocabulary.of("7 ")
        >>> following, allowed = well_formed_continuations(find_template("tags"), vocabulary)
        >>> [[vocabulary.tokens[token] for token in np.flatnonzero(row)] for row in allowed[:3]]
        [['<think>'], ['</think>', ' ', '7'], ['<answer>', ' ']]
    """
    size, end = len(vocabulary), vocabulary.end
    text = np.array([token not in TAGS for token in vocabulary.tokens])
    text[: end + 1] = False
    if template.form != "tags":
        return np.zeros((1, size), dtype=np.int64), np.where(np.arange(size) == end, True, text)[None]
    tags = [vocabulary.tokens.index(tag) for tag in TAGS[int(template.opened) :]]
    blank = np.array([token in (" ", "\n", "\t", "\r") for token in vocabulary.tokens])
    broken = len(tags) + 1
    following = np.full((broken + 1, size), broken, dtype=np.int64)
    allowed = np.zeros((broken + 1, size), dtype=np.bool_)
    for k in range(broken):
        written = TAGS[: int(template.opened) + k]
        inside = written[-1:] in (("<think>",), ("<answer>",))
        following[k, text if inside else blank] = k
        if inside:
            allowed[k] = text
        elif written == TAGS[:2]:  # between the thought and the answer
            allowed[k] = blank
        if k < len(tags):
            allowed[k, tags[k]] = True
            following[k, tags[k]] = k + 1
        else:
            allowed[k, end] = True
    allowed[broken] = text | ~np.isin(np.arange(size), [vocabulary.pad])
    return following, allowed
