"""The policy of blackjack that Sutton & Barto evaluate, and one hand under it, for the figures about them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gridzero.envs import FiniteMDP
from gridzero.envs.blackjack import HIT, OBSERVED, STICK, blackjack, blackjack_state

GAME = blackjack()
HAND = blackjack_state(13, 2, True)
"""An ace and a deuce (or three aces) against a deuce: the state of figure 5.3."""


def stick_on_twenty() -> NDArray[np.int64]:
    """(S,) actions that stick on 20 and 21 only."""
    actions = np.full(GAME.num_states, HIT)
    for dealer in range(1, 11):
        for total in (20, 21):
            for usable in (False, True):
                actions[blackjack_state(total, dealer, usable)] = STICK
        actions[OBSERVED + dealer - 1] = STICK
    return actions


def led_to(mdp: FiniteMDP, state: int) -> FiniteMDP:
    """The world with one more state, where episodes begin and which leads to a given one.

    A ratio of importance sampling is that of the actions after the pair whose value is estimated: seen from the new
    state, it has those of all actions from the given state on, and the value of the pair is that of the state.
    """
    last = mdp.num_states
    outcomes = mdp.successors.shape[2]
    leads = np.full((1, mdp.num_actions, outcomes), state)
    return FiniteMDP(
        np.concatenate([mdp.successors, leads]),
        np.concatenate([mdp.probabilities, np.eye(outcomes)[[[0] * mdp.num_actions]]]),
        np.concatenate([mdp.rewards, np.zeros((1, mdp.num_actions))]),
        np.append(mdp.terminal, False),
        np.eye(last + 1)[last],
    )
