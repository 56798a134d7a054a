"""Actor-critic with tables: a softmax policy that learns from a critic at every step, on policy or off policy.

Source: Zhao, algorithms 10.1 (QAC), 10.2 (advantage actor-critic) and 10.3 (off-policy actor-critic); Sutton & Barto,
section 13.5. With networks, advantage actor-critic is PPO with one pass over each batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gridzero.agents.config_checks import check_above_zero, check_choice
from gridzero.agents.tabular import td_kernels as kernels
from gridzero.agents.tabular.tabular import FloatArray, greedy_policy
from gridzero.agents.tabular.temporal_difference import TemporalDifference, TemporalDifferenceConfig

kernel = kernels.kernel


@dataclass(frozen=True)
class ActorCriticConfig(TemporalDifferenceConfig):
    """Settings of actor-critic."""

    step_size: str = "0.1"
    """The critic's step size, as for the other agents."""
    actor_step_size: float = 0.1
    """The actor's step size."""
    critic: Literal["states", "actions"] = "states"
    """Kind of critic: states, so that the actor learns from temporal-difference errors (advantage
    actor-critic), or states and actions, so that it learns from their values (QAC)."""
    behaviour: Literal["own", "uniform"] = "own"
    """The policy that acts while learning: its own, or the uniform one, whose steps count by their importance."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "critic", ("states", "actions"))
        check_choice(self, "behaviour", ("own", "uniform"))
        check_above_zero(self, "actor_step_size")
        if self.critic == "actions" and self.behaviour == "uniform":
            raise ValueError("behaviour uniform needs critic states: values of actions are learnt on policy")


class ActorCritic(TemporalDifference):
    r"""Actor-critic: $\theta \leftarrow \theta + \alpha_\theta\, \rho\, \delta\, \nabla \log \pi(a \mid s)$.

    δ is the critic's temporal-difference error $r + \gamma v(s') - v(s)$, or $q(s, a)$ itself, and ρ the probability of
    the action under the policy over that under the policy that acts. The policy is a softmax over preferences θ(s, a).

    Example:
        >>> import gymnasium, gridzero
        >>> lake = gymnasium.make("FrozenLake-v1", is_slippery=False)
        >>> agent = gridzero.agents.make("actor-critic", lake)
        >>> for update in agent.learn():
        ...     if update.step >= 20_000:
        ...         break
        >>> gridzero.agents.evaluate(agent).mean
        1.0
    """

    Config = ActorCriticConfig

    def _create_memory(self) -> dict[str, NDArray[Any]]:
        return {
            "preferences": np.zeros(self._action_values.shape),
            "values": np.full((self.states.n, 1), self.config.initial_value, dtype=np.float64),
            "state_visits": np.zeros((self.states.n, 1), dtype=np.int64),
        }

    def exploring_policy_table(self) -> FloatArray:
        """(S, A) probabilities of the policy that is learnt."""
        preferences = self.memory["preferences"]
        powers = np.exp(preferences - preferences.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    def policy_table(self) -> FloatArray:
        """(S, A) probabilities, all on the most likely action."""
        return greedy_policy(self.memory["preferences"])

    def state_values(self) -> FloatArray:
        """(S,) estimated values of the policy that is learnt."""
        if self.config.critic == "states":
            return self.memory["values"][:, 0].copy()
        return np.asarray((self.exploring_policy_table() * self._action_values).sum(axis=1))

    def _choose_first(self) -> None:
        _, _, streams, states, actions = self._table
        for i, state in enumerate(states):
            actions[i] = sample(self.memory["preferences"], state, self.config.behaviour == "uniform", streams, i)

    def _learn_from(self, batch: tuple[NDArray[Any], ...], settings: tuple[float, ...]) -> float:
        memory, config = self.memory, self.config
        actor = (
            memory["preferences"],
            config.actor_step_size,
            config.critic == "actions",
            config.behaviour == "uniform",
        )
        critic = (memory["values"], memory["state_visits"])
        return float(actor_critic(self._table, batch, settings, self._waits, actor, critic))


@kernel
def probability(preferences: Any, state: int, action: int) -> float:
    """π(a|s) of the softmax over preferences."""
    most, total = preferences[state].max(), 0.0
    for b in range(preferences.shape[1]):
        total += np.exp(preferences[state, b] - most)
    return float(np.exp(preferences[state, action] - most) / total)


@kernel
def sample(preferences: Any, state: int, uniformly: bool, streams: Any, i: int) -> int:
    """An action of the softmax over preferences, or any, from one number of stream i."""
    count = preferences.shape[1]
    mark = kernels.uniform(streams, i)
    if uniformly:
        return int(min(int(mark * count), count - 1))
    for a in range(count - 1):
        mark -= probability(preferences, state, a)
        if mark < 0:
            return a
    return int(count - 1)


@kernel
def actor_critic(table: Any, batch: Any, settings: Any, waits: bool, actor: Any, critic: Any) -> float:
    """One step of actor and critic; q(s, a) averages the targets of its pair where states are valued.

    Args:
        table: as in all kernels.
        batch: as in all kernels.
        settings: as in all kernels.
        waits: as in all kernels.
        actor: preferences (S, A), the actor's step size, whether actions are valued, whether any action is taken.
        critic: (S, 1) state values and (S, 1) updates so far.
    """
    q, visits, streams, states, actions = table
    preferences, size, by_action, uniformly = actor
    values, state_visits = critic
    next_states, observed, rewards, terminated, truncated, valid = batch
    count, errors = q.shape[1], 0.0
    gradient = np.empty(count)
    for i in range(len(states)):
        ended = valid[i] and (terminated[i] or truncated[i])
        chosen = -1
        if valid[i]:
            s, a, target = states[i], actions[i], rewards[i]
            if by_action:
                if not terminated[i]:
                    chosen = sample(preferences, next_states[i], uniformly, streams, i)
                    target += settings[0] * q[next_states[i], chosen]
                advantage = q[s, a]
                errors += kernels.update(q, visits, s, a, target, settings)
            else:
                if not terminated[i]:
                    target += settings[0] * values[next_states[i], 0]
                ratio = probability(preferences, s, a) * count if uniformly else 1.0
                advantage = ratio * (target - values[s, 0])
                errors += abs(target - values[s, 0])
                values[s, 0] += kernels.next_step_size(state_visits, s, 0, settings) * advantage
                kernels.update(q, visits, s, a, target, settings)
            for b in range(count):  # of log π(a|s)
                gradient[b] = (1.0 if b == a else 0.0) - probability(preferences, s, b)
            preferences[s] += size * advantage * gradient
        states[i] = observed[i]
        if waits and ended:
            continue
        fresh = chosen < 0 or ended
        actions[i] = sample(preferences, observed[i], uniformly, streams, i) if fresh else chosen
    return errors
