"""Blackjack as a finite MDP: the exact model of Gymnasium's ``Blackjack-v1`` with ``sab=True``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gridzero.envs.mdp import FiniteMDP

FloatArray = NDArray[np.float64]

STICK, HIT = 0, 1
OBSERVED = 32 * 11 * 2
"""States that ``Blackjack-v1`` can observe, most of them never."""
WON, DRAWN, LOST, OVER = range(OBSERVED + 10, OBSERVED + 14)

_CARDS = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
_CHANCES = np.array([1.0] * 9 + [4.0]) / 13


def blackjack_state(total: int, dealer: int, usable_ace: bool) -> int:
    """The number of a state, as gridzero numbers the observations of ``Blackjack-v1``.

    Args:
        total: the player's sum, a usable ace counting 11.
        dealer: the dealer's card, an ace being 1.
        usable_ace: whether the player has an ace that counts 11.

    Example:
        >>> blackjack_state(14, 10, True)
        329
    """
    return (total * 11 + dealer) * 2 + int(usable_ace)


def blackjack() -> FiniteMDP:
    r"""The model of blackjack with an endless deck (Sutton & Barto, 2nd ed., example 5.1).

    Action 0 sticks, 1 hits. Sticking leads to one of three states, won, drawn and lost, and these to the end; so each
    reward is the one of its own game, not an average. The first 704 states are the observations of ``Blackjack-v1``,
    then come the naturals (21 with two cards, which win against a dealer's 21 of more cards) by the dealer's card,
    then won, drawn, lost and the end.

    Example:
        >>> mdp = blackjack()
        >>> stick = np.zeros(mdp.num_states, dtype=int)  # at any sum
        >>> float(mdp.policy_values(stick, gamma=1.0)[blackjack_state(20, 10, False)].round(3))
        0.435
    """
    states = OVER + 1
    transitions: list[list[dict[int, float]]] = [[{OVER: 1.0}, {OVER: 1.0}] for _ in range(states)]
    known = np.zeros(states, dtype=np.bool_)
    known[WON:OVER] = True
    for dealer in _CARDS.tolist():
        ends = dealer_ends(dealer)
        natural = OBSERVED + dealer - 1
        known[natural] = True
        transitions[natural][STICK] = {WON: 1 - ends[22], DRAWN: ends[22]}
        transitions[natural][HIT] = _hit(21, dealer, True)
        for usable in (False, True):
            for total in range(12 if usable else 4, 22):
                state = blackjack_state(total, dealer, usable)
                known[state] = True
                level = ends[21] + ends[22] if total == 21 else ends[total]
                better = ends[max(total + 1, 17) : 22].sum() + (ends[22] if total < 21 else 0.0)
                transitions[state][STICK] = {WON: 1 - level - better, DRAWN: level, LOST: better}
                transitions[state][HIT] = _hit(total, dealer, usable)
    outcomes = max(len(row) for pair in transitions for row in pair)
    successors = np.full((states, 2, outcomes), OVER)
    probabilities = np.zeros((states, 2, outcomes))
    probabilities[:, :, 0] = 1.0
    for state in np.flatnonzero(known).tolist():
        for action, row in enumerate(transitions[state]):
            chances = np.array(list(row.values()))
            successors[state, action, : len(row)] = list(row)
            probabilities[state, action, : len(row)] = chances / chances.sum()
    rewards = np.zeros((states, 2))
    rewards[WON], rewards[LOST] = 1.0, -1.0
    return FiniteMDP(successors, probabilities, rewards, ~known, _deal(states))


def dealer_ends(card: int) -> FloatArray:
    """(23,) chances of what a dealer with this first card ends with: a sum of 17 to 21, 22 a natural, 0 above 21."""
    ends = np.zeros(23)
    for second, chance in zip(_CARDS.tolist(), _CHANCES.tolist(), strict=True):
        if {card, second} == {1, 10}:
            ends[22] += chance
        else:
            ends += chance * _dealer(card + second, 1 in (card, second))
    return ends


def _dealer(total: int, ace: bool) -> FloatArray:
    """(23,) chances of what the dealer ends with, from a sum that counts each ace as 1."""
    best = total + 10 if ace and total + 10 <= 21 else total
    ends = np.zeros(23)
    if best > 21:
        ends[0] = 1.0
    elif best >= 17:
        ends[best] = 1.0
    else:
        for card, chance in zip(_CARDS.tolist(), _CHANCES.tolist(), strict=True):
            ends += chance * _dealer(total + card, ace or card == 1)
    return ends


def _hit(total: int, dealer: int, usable: bool) -> dict[int, float]:
    """Chances of the states after another card."""
    row: dict[int, float] = {}
    for card, chance in zip(_CARDS.tolist(), _CHANCES.tolist(), strict=True):
        hard, ace = total - 10 * usable + card, usable or card == 1
        now_usable = ace and hard + 10 <= 21
        best = hard + 10 * now_usable
        state = LOST if best > 21 else blackjack_state(best, dealer, now_usable)
        row[state] = row.get(state, 0.0) + chance
    return row


def _deal(states: int) -> FloatArray:
    """(S,) chances of the states after the first cards."""
    start = np.zeros(states)
    for one, first in zip(_CARDS.tolist(), _CHANCES.tolist(), strict=True):
        for other, second in zip(_CARDS.tolist(), _CHANCES.tolist(), strict=True):
            usable = 1 in (one, other)
            total = one + other + 10 * usable
            for dealer, third in zip(_CARDS.tolist(), _CHANCES.tolist(), strict=True):
                state = OBSERVED + dealer - 1 if total == 21 else blackjack_state(total, dealer, usable)
                start[state] += first * second * third
    return np.asarray(start / start.sum())
