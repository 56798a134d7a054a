"""Text, token by token: an action is one token, and a verifier judges the completion at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from gridzero.envs.checks import positive_integer
from gridzero.envs.mdp import FiniteMDP
from gridzero.envs.tasks import Vocabulary
from gridzero.envs.tasks.reward import DEFAULT, Weights
from gridzero.envs.text.single import ProblemEnv
from gridzero.envs.text.token_tree import TokenTree, well_formed_continuations
from gridzero.envs.text.vector import ProblemVector

Observation = Literal["tokens", "index"]

IntArray = NDArray[np.int64]


class TokenGenerationVector(ProblemVector, VectorEnv[Any, Any, Any]):  # some libraries look at direct bases only
    """N conversations, token by token: what :class:`TokenGeneration` is, N times over.

    Environment i does what a :class:`TokenGeneration` on the random stream (seed, i) does. ``reset(seed=s)`` gives
    environment i the stream (s, i); ``reset(seed=[s0, s1, …])`` gives it (s_i, 0), which a single one has after
    ``reset(seed=s_i)``: equal seeds, equal problems.

    Args:
        num_envs: N.
        task: the name of a task.
        rewards: weights of reward functions by name, as in ``"correct,form=0.1,mymod:politeness=0.5"``, or a mapping of
            names or functions; see :mod:`~gridzero.envs.tasks.reward`.
        max_tokens: a completion of so many tokens is over.
        observation: ``"tokens"`` or ``"index"``.
        context: the number of tokens observed.
        writable: the characters that actions write; None: every token of the vocabulary.
        distinct: the number of different problems, always the same ones; None: all that the task has.
        max_episode_steps: after how many tokens an episode is cut off, unjudged; None: never.
        autoreset_mode: an ``AutoresetMode`` or its value: ``"NextStep"``, ``"SameStep"`` or ``"Disabled"``.
        render_mode: ``"ansi"`` or ``"rgb_array"``: the conversations with their verdicts.
        **task_options: the task's own options, and those that all tasks have.

    Attributes:
        autoreset_mode: the mode.
        task: the task.
        problems: the N problems under way.
        vocabulary: the tokens; their ids are what is observed.
        action_tokens: (A,) the token of each action.
        mdp: the exact model, where ``distinct`` and ``max_tokens`` are small enough.

    Raises:
        TypeError: for an option that neither the environment nor its task has; it suggests the closest ones.
        ValueError: for a value that is not allowed; it says what is.

    Example:
        >>> envs = TokenGenerationVector(num_envs=2, digits=1, template="plain", context=8)
        >>> observations, _ = envs.reset(seed=[7, 7])
        >>> observations[0]
        array([11,  7, 13, 19,  6,  0,  0,  0])
        >>> six, end = envs.vocabulary.encode("6")[0], envs.vocabulary.end
        >>> envs.step([six, six])[1], envs.step([end, end])[1]
        (array([0., 0.]), array([1.1, 1.1]))
    """

    def __init__(
        self,
        num_envs: int = 1,
        task: str = "addition",
        *,
        rewards: Weights = DEFAULT,
        max_tokens: int = 48,
        observation: Observation = "tokens",
        context: int = 64,
        writable: str | None = None,
        distinct: int | None = None,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        **task_options: Any,
    ) -> None:
        super().__init__(
            num_envs,
            task,
            rewards=rewards,
            distinct=distinct,
            max_episode_steps=max_episode_steps,
            autoreset_mode=autoreset_mode,
            render_mode=render_mode,
            task_options=task_options,
        )
        if self.task.picture_shape is not None:
            raise ValueError("tokens are observed alone, without a picture: pixels must be 0 here")
        self.max_tokens = positive_integer("max_tokens", max_tokens)
        self.context = positive_integer("context", context)
        self.vocabulary = Vocabulary.for_task(self.task)
        size, end = len(self.vocabulary), self.vocabulary.end
        if writable is None:
            self.action_tokens: IntArray = np.arange(size)
        else:
            self.action_tokens = np.array([end, *dict.fromkeys(self.vocabulary.encode(writable))], dtype=np.int64)
        self._following, self._allowed = well_formed_continuations(self.task.template, self.vocabulary)
        self._allowed = self._allowed[:, self.action_tokens]
        self._allowed[~self._allowed.any(axis=1)] = True
        self._tree: TokenTree | None = None
        self._treeless = "token generation has a model only where distinct says how many problems there are"
        if self.task.turns > 1:
            self._treeless = "token generation has a model only for tasks of one turn"
        elif self.distinct_problems is not None:
            try:
                self._tree = TokenTree(
                    self.rewards, self.distinct_problems, self.vocabulary, self.action_tokens, self.max_tokens
                )
            except ValueError as error:
                self._treeless = str(error)
        if observation not in get_args(Observation):
            raise ValueError(f"observation must be one of {', '.join(get_args(Observation))}, not {observation!r}")
        self.observation = observation
        if observation == "index":
            self.single_observation_space: gym.Space[Any] = gym.spaces.Discrete(self._countable().num_states)
        else:
            self.single_observation_space = gym.spaces.MultiDiscrete(np.full(self.context, size))
        self.single_action_space = gym.spaces.Discrete(len(self.action_tokens))
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._tokens = np.zeros((self.num_envs, self.context), dtype=np.int64)
        self._lengths = np.zeros(self.num_envs, dtype=np.int64)
        self._starts = np.zeros(self.num_envs, dtype=np.int64)  # of the completions under way
        self._forms = np.zeros(self.num_envs, dtype=np.int64)  # rows of the tables of continuations
        self._nodes = np.zeros(self.num_envs, dtype=np.int64)  # of the tree

    def _countable(self) -> TokenTree:
        if self._tree is None:
            raise ValueError(self._treeless)
        return self._tree

    def _open(self, i: int, prompt: str) -> None:
        self._tokens[i] = self.vocabulary.pad
        self._lengths[i] = 0
        self._append(i, prompt)
        self._nodes[i] = 0

    def _append(self, i: int, text: str) -> None:
        """A prompt or a reply, and room for the completion after it."""
        ids = self.vocabulary.encode(text)
        begin = int(self._lengths[i])
        needed = begin + len(ids) + self.max_tokens
        if needed > self._tokens.shape[1]:
            self._tokens = np.pad(self._tokens, ((0, 0), (0, needed - self._tokens.shape[1])))
        self._tokens[i, begin : begin + len(ids)] = ids
        self._lengths[i] = self._starts[i] = begin + len(ids)
        self._forms[i] = 0

    def _check(self, actions: Any) -> IntArray:
        taken = np.asarray(actions)
        if taken.shape != (self.num_envs,) or taken.dtype.kind not in "iu":
            raise ValueError(f"actions must be ({self.num_envs},) integers, not {taken.dtype} of shape {taken.shape}")
        if taken.min() < 0 or taken.max() >= len(self.action_tokens):
            wrong = taken[(taken < 0) | (taken >= len(self.action_tokens))][0]
            raise ValueError(f"an action is an integer from 0 to {len(self.action_tokens) - 1}, not {wrong}")
        return taken.astype(np.int64)

    def _act(self, actions: IntArray, acting: NDArray[np.bool_]) -> None:
        tokens = self.action_tokens[actions]
        writing = acting & (tokens > self.vocabulary.end)  # padding cannot be written: it ends a completion too
        rows = np.flatnonzero(writing)
        self._tokens[rows, self._lengths[rows]] = tokens[rows]
        self._lengths += writing
        self._forms[rows] = self._following[self._forms[rows], tokens[rows]]
        if self._tree is not None:
            self._nodes[rows] = self._tree.child(self._nodes[rows], actions[rows])
        for i in np.flatnonzero(acting & (~writing | (self._lengths - self._starts >= self.max_tokens))).tolist():
            reply = self._say(i, self._written(i))
            if reply is not None:
                self._append(i, reply)

    def _written(self, i: int) -> str:
        return self.vocabulary.decode(self._tokens[i, self._starts[i] : self._lengths[i]].tolist())

    def _text(self, i: int) -> str:
        return self.vocabulary.decode(self._tokens[i, : self._lengths[i]].tolist())

    def _observe(self) -> IntArray:
        if self.observation == "index":
            return self._states()
        begin = np.maximum(self._lengths - self.context, 0)
        if not begin.any():
            return self._tokens[:, : self.context].copy()
        return np.take_along_axis(self._tokens, begin[:, None] + np.arange(self.context), axis=1)

    def _states(self) -> IntArray:
        tree = self._countable()
        states = tree.states(self._numbers, self._nodes)
        states[list(self._verdicts)] = tree.num_states - 1
        return states

    @property
    def mdp(self) -> FiniteMDP:
        """The exact model: a state for each problem and each beginning of a completion, and one where all is over.

        State p·M + n is beginning n, of M, of distinct problem p. Beginnings are numbered by length, then in the order
        of the actions; the last state of all is the end. A reward is paid by the token that ends a completion. It takes
        a verdict on every completion that there is, and is remembered.

        Raises:
            AttributeError: where the states cannot be counted, or are too many.
        """
        try:
            return self._countable().mdp
        except ValueError as error:
            raise AttributeError(str(error)) from None

    def action_masks(self) -> NDArray[np.bool_]:
        """(N, A) what a well-formed completion can go on with: never padding, tags only in their places.

        All True but for padding where the form is broken already.
        """
        return np.asarray(self._allowed[self._forms])

    def get_state(self) -> dict[str, Any]:
        """State to continue from: the random streams, the problems by their place in them, the conversations."""
        state = super().get_state()
        return {**state, "written": [self._written(i) if i not in self._verdicts else "" for i in range(self.num_envs)]}

    def set_state(self, state: Mapping[str, Any] | IntArray | Sequence[int]) -> Any:
        """Continue from what :meth:`get_state` gave, or begin episodes in states (N,) of :attr:`mdp`.

        Returns:
            The observations there.

        Raises:
            ValueError: when the numbers of environments disagree, or nobody can go on from a state.
        """
        if isinstance(state, Mapping):
            return super().set_state(state)
        tree = self._countable()
        states = np.asarray(state)
        if states.shape != (self.num_envs,) or states.dtype.kind not in "iu":
            raise ValueError(f"states must be ({self.num_envs},) integers, not {states.dtype} of shape {states.shape}")
        if states.min() < 0 or states.max() >= tree.num_states - 1:
            raise ValueError(
                f"episodes go on in states 0 to {tree.num_states - 2}, not {states.min()} to {states.max()}"
            )
        if not self._ready:
            self.reset()
        for i, place in enumerate(states.tolist()):
            number, node = divmod(place, tree.nodes)
            self._pose(i, tree.problems[number], number)
            self._write(i, tree.actions_to(node))
        self._elapsed[:] = 0
        self._done[:] = False
        return self._observe()

    def _write(self, i: int, actions: Sequence[int]) -> None:
        """Write tokens, none of which ends a completion."""
        for action in actions:
            token = int(self.action_tokens[action])
            self._tokens[i, self._lengths[i]] = token
            self._lengths[i] += 1
            self._forms[i] = self._following[self._forms[i], token]
            if self._tree is not None:
                self._nodes[i] = self._tree.child(self._nodes[i : i + 1], np.array([action]))[0]

    def _restore(self, completions: Sequence[Sequence[str]], state: Mapping[str, Any]) -> None:
        actions = {token: action for action, token in enumerate(self.action_tokens.tolist())}
        for i, said in enumerate(completions):
            for text in said:
                self._write(i, [actions[token] for token in self.vocabulary.encode(text)])
                reply = self._say(i, text)
                if reply is not None:
                    self._append(i, reply)
            self._write(i, [actions[token] for token in self.vocabulary.encode(state["written"][i])])


class TokenGeneration(ProblemEnv):
    """A problem is answered token by token; a verifier judges the completion.

    Observations are the text so far: with ``"tokens"`` the ids of its tokens, from its beginning, filled up with
    padding to ``context`` ids, or the last ``context`` ones of a longer text; with ``"index"`` the number of the state
    in :attr:`mdp`. An action is a token. The end token ends the completion, as does the padding token, which cannot be
    written, and as does reaching ``max_tokens``. Then a right answer pays 1 and a well-formed completion 0.1, unless
    ``rewards`` say otherwise; tasks that answer back may go on instead. The info has ``correct``, ``well_formed``,
    ``is_success`` (the same as ``correct``), the ``answer`` that was found and the ``reason``; before the end they are
    False and "". Rewards of another kind are in it too, each as ``reward/NAME``.

    Args:
        task: the name of a task with an alphabet of its own.
        rewards: weights of reward functions by name, as in ``"correct,form=0.1,mymod:politeness=0.5"``, or a mapping of
            names or functions; see :mod:`~gridzero.envs.tasks.reward`.
        max_tokens: a completion of so many tokens is over.
        observation: ``"tokens"`` or ``"index"``; the latter where the states can be counted, see :attr:`mdp`.
        context: the number of tokens observed.
        writable: the characters that actions write, action 0 being the end; None: every token of the vocabulary, action
            k being token k.
        distinct: the number of different problems, always the same ones; None: all that the task has.
        render_mode: ``"ansi"`` or ``"rgb_array"``: the conversation with its verdict.
        **task_options: the task's own options, and those that all tasks have.

    Attributes:
        task: the task.
        problem: the problem under way.
        vocabulary: the tokens.
        action_tokens: (A,) the token of each action.

    Raises:
        TypeError: for an option that neither the environment nor its task has; it suggests the closest ones.
        ValueError: for a value that is not allowed; it says what is.

    Example:
        >>> env = TokenGeneration(digits=1, template="plain", max_tokens=2, writable="0123456789", distinct=20)
        >>> env.mdp
        FiniteMDP(221 states, 11 actions, at most 1 successors)
        >>> float(env.mdp.start @ env.mdp.finite_horizon_values(2))
        1.1
    """

    def __init__(
        self,
        task: str = "addition",
        *,
        rewards: Weights = DEFAULT,
        max_tokens: int = 48,
        observation: Observation = "tokens",
        context: int = 64,
        writable: str | None = None,
        distinct: int | None = None,
        render_mode: str | None = None,
        **task_options: Any,
    ) -> None:
        vector = TokenGenerationVector(
            1,
            task,
            rewards=rewards,
            max_tokens=max_tokens,
            observation=observation,
            context=context,
            writable=writable,
            distinct=distinct,
            autoreset_mode=AutoresetMode.DISABLED,
            render_mode=render_mode,
            **task_options,
        )
        super().__init__(vector, render_mode)
        self.vocabulary, self.action_tokens = vector.vocabulary, vector.action_tokens

    @property
    def mdp(self) -> FiniteMDP:
        """The exact model; see :attr:`TokenGenerationVector.mdp`.

        Raises:
            AttributeError: where the states cannot be counted, or are too many.
        """
        model: FiniteMDP = self._vector.mdp
        return model

    def action_masks(self) -> NDArray[np.bool_]:
        """(A,) what a well-formed completion can go on with: never padding, tags only in their places."""
        return np.array(self._vector.action_masks()[0])

    def set_state(self, state: Any) -> Any:
        """Continue from what :meth:`get_state` gave, or begin an episode in a state of :attr:`mdp`.

        Returns:
            The observation there.

        Raises:
            ValueError: for a state that nobody can go on from.
        """
        return super().set_state(state if isinstance(state, Mapping) else [state])
