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


def led_to(mdp: FiniteMDP, state: int) -> tuple[FiniteMDP, NDArray[np.int64]]:
    """The part of a world that follows a state, and one more state that leads there, where episodes begin.

    A ratio of importance sampling is that of the actions after the pair whose value is estimated: seen from the new
    state, it has those of all actions from the given state on, and the value of the pair is that of the state.

    Returns:
        The world, the new state being the last, and the number that each of the others had.
    """
    possible = mdp.probabilities > 0
    kept = np.array([state])
    while True:
        following = np.union1d(kept, mdp.successors[kept][possible[kept]])
        if len(following) == len(kept):
            break
        kept = following
    count, outcomes = len(kept), mdp.successors.shape[2]
    leads = np.full((1, mdp.num_actions, outcomes), np.searchsorted(kept, state))
    certain = np.broadcast_to(np.eye(outcomes)[0], leads.shape)
    world = FiniteMDP(
        np.concatenate([np.searchsorted(kept, np.where(possible, mdp.successors, state)[kept]), leads]),
        np.concatenate([mdp.probabilities[kept], certain]),
        np.concatenate([mdp.rewards[kept], np.zeros((1, mdp.num_actions))]),
        np.append(mdp.terminal[kept], False),
        np.eye(count + 1)[count],
    )
    return world, kept
