"""Test of a model against the environment that claims it, by steps of a copy.

A step that the model gives probability 0 refutes it. Frequencies are tested by betting: for each state and action, and
for each list of probabilities over all states, the outcomes so far predict the next one, and the likelihood ratio of
the prediction to the model is a martingale with mean 1 if the model is right. It exceeds 1 / :data:`FALSE_ALARM` with
no larger a probability than that, whenever one looks (Ville 1939; Ramdas et al. 2023, *Game-theoretic statistics*).
"""

from __future__ import annotations

import copy
import math
import weakref
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

STEPS = 3000
EPISODE = 200
"""Steps after which the copy is reset, so that every part of the environment that starts lead to is seen."""
FALSE_ALARM = 1e-9
TOLERANCE = 1e-6
"""Tolerance of rewards, relative to the larger of 1 and the reward: some environments compute in single precision."""

Outcome = tuple[float, int, float | None, bool]
"""Probability, next state, reward (None where the model has no more than the mean of several) and termination."""

_HARMLESS = (
    gym.ObservationWrapper,
    gym.wrappers.PassiveEnvChecker,
    gym.wrappers.OrderEnforcing,
    gym.wrappers.TimeLimit,
    gym.wrappers.RecordEpisodeStatistics,
)
_verdicts: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
_verdicts_by_spec: dict[str, str] = {}


class ModelError(ValueError):
    """An environment behaves otherwise than its model says."""


def check_model(env: Any, model: Any) -> None:
    """Raise ModelError where an environment, in its wrappers, contradicts the model that it has.

    Deterministic, bounded by :data:`STEPS`, and remembered for the specification or else the environment. An
    environment that cannot be copied or stepped, or does not show its state (as ``s``, ``cell`` or a number observed),
    is taken at its word.

    Args:
        env: a single environment.
        model: a ``FiniteMDP``, or a table of transitions as :meth:`FiniteMDP.from_table` takes it.

    Raises:
        ModelError: with the first contradiction.
    """
    wrong = _contradiction(env, model)
    if wrong:
        raise ModelError(f"{type(env.unwrapped).__name__} does not behave as its model says: {wrong}")


def _contradiction(env: Any, model: Any) -> str:
    inner = env.unwrapped
    if getattr(inner, "fickle_passenger", False):  # Gymnasium's Taxi; a random walk seldom has a passenger
        return "the passenger of fickle_passenger=True changes the destination, which the table P leaves out"
    wrapped = _changes_dynamics(env)
    if not wrapped and type(inner).__module__.startswith("gridzero."):
        return ""
    spec = getattr(env, "spec", None)
    key = "" if wrapped or spec is None else f"{spec.id} {spec.kwargs!r}"
    known = _verdicts_by_spec.get(key) if key else _verdicts.get(env)
    if known is None:
        try:
            known = _sampled_contradiction(env if wrapped else inner, model)
        except Exception:  # whatever the environment raises
            known = ""
        if key:
            _verdicts_by_spec[key] = known
        else:
            _verdicts[env] = known
    return known


def _changes_dynamics(env: Any) -> bool:
    """Whether a wrapper may change rewards, actions or transitions."""
    while isinstance(env, gym.Wrapper):
        if not isinstance(env, _HARMLESS) and type(env).step is not gym.Wrapper.step:
            return True
        env = env.env
    return False


def _sampled_contradiction(env: Any, model: Any) -> str:
    env = copy.deepcopy(env)
    rng = np.random.default_rng(0)
    bets: tuple[_Bets, _Bets] = _Bets(), _Bets()
    began = STEPS
    observation = None
    for step in range(STEPS):
        if began >= EPISODE:
            observation, _ = env.reset(seed=int(rng.integers(2**31)))
            began = 0
        state, action = _state(env, observation), int(rng.integers(env.action_space.n))
        if state is None:
            return ""
        observation, reward, terminated, _, _ = env.step(action + int(getattr(env.action_space, "start", 0)))
        began = EPISODE if terminated else began + 1
        following = _state(env, observation)
        if following is None:
            return ""
        outcomes = _outcomes(model, state, action)
        index = next(
            (i for i, outcome in enumerate(outcomes) if _agrees(outcome, following, float(reward), terminated)), None
        )
        what = f"action {action} in state {state}"
        if index is None:
            return (
                f"{what} led to state {following} with reward {float(reward):g}"
                f"{' and ended the episode' if terminated else ''}, which has probability 0 in the model"
            )
        probabilities = tuple(outcome[0] for outcome in outcomes)
        bets[0].add((state, action), probabilities, index)
        bets[1].add(probabilities, probabilities, index)
        if max(bet.logarithm for bet in bets) > math.log(len(bets) / FALSE_ALARM):
            return f"the frequencies of outcomes in {step + 1} steps contradict the model's probabilities"
    return ""


def _outcomes(model: Any, state: int, action: int) -> list[Outcome]:
    """The outcomes of an action, equal ones merged."""
    merged: dict[tuple[int, float | None, bool], float] = {}
    if isinstance(model, Mapping):
        for p, successor, reward, end in model[state][action]:
            key: tuple[int, float | None, bool] = (int(successor), float(reward), bool(end))
            merged[key] = merged.get(key, 0.0) + float(p)
    else:
        certain = len(set(model.successors[state, action][model.probabilities[state, action] > 0])) == 1
        mean = float(model.rewards[state, action]) if certain else None
        for successor, p in zip(model.successors[state, action], model.probabilities[state, action], strict=True):
            key = int(successor), mean, bool(model.terminal[successor])
            merged[key] = merged.get(key, 0.0) + float(p)
    return [(p, *key) for key, p in merged.items() if p > 0]


class _Bets:
    """The logarithm of a martingale that grows where frequencies differ from probabilities."""

    def __init__(self) -> None:
        self.logarithm = 0.0
        self._counts: dict[Any, dict[int, int]] = defaultdict(lambda: defaultdict(int))

    def add(self, key: Any, probabilities: tuple[float, ...], index: int) -> None:
        counts = self._counts[key]
        total = sum(counts.values())
        # A Dirichlet prior whose mean is the model and whose weight is one observation.
        predicted = (counts[index] + probabilities[index]) / (total + 1)
        self.logarithm += math.log(predicted / probabilities[index])
        counts[index] += 1


def _state(env: Any, observation: Any) -> int | None:
    inner = env.unwrapped
    for shown in (getattr(inner, "s", None), getattr(inner, "cell", None), observation):
        if isinstance(shown, int | np.integer):
            return int(shown)
    return None


def _agrees(outcome: Outcome, state: int, reward: float, terminated: bool) -> bool:
    _, expected_state, expected_reward, expected_end = outcome
    if expected_state != state or expected_end != bool(terminated):
        return False
    return expected_reward is None or abs(reward - expected_reward) <= TOLERANCE * max(1.0, abs(expected_reward))
