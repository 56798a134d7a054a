from __future__ import annotations

import gymnasium as gym
import numpy as np
from scipy import stats

from gridzero.agents.spaces import Numbering
from gridzero.envs.blackjack import HIT, LOST, OBSERVED, STICK, WON, blackjack, blackjack_state, dealer_ends


def test_states_are_numbered_as_the_observations_are() -> None:
    numbering = Numbering(gym.make("Blackjack-v1").observation_space)
    for hand in ((4, 1, 0), (13, 2, 1), (21, 10, 1), (17, 9, 0)):
        assert blackjack_state(hand[0], hand[1], bool(hand[2])) == numbering.number(hand)
    assert numbering.n == OBSERVED


def test_the_dealer_goes_bust_by_the_known_chances() -> None:
    """The well-known chances by the first card, of a dealer who stands on every 17, from an endless deck."""
    busts = [dealer_ends(card)[0] for card in range(1, 11)]
    np.testing.assert_allclose(
        busts, [0.115, 0.354, 0.374, 0.394, 0.416, 0.423, 0.262, 0.244, 0.229, 0.212], atol=0.001
    )
    for card in range(1, 11):
        assert abs(dealer_ends(card).sum() - 1) < 1e-12


def test_games_of_gymnasium_go_as_the_model_says() -> None:
    """Returns and first hands of 4,000 games under a policy that hits below 15: z-test and chi-square, 99.9 %."""
    env = gym.make("Blackjack-v1", sab=True)
    mdp = blackjack()
    policy = np.full(mdp.num_states, HIT)
    for total in range(15, 22):
        for dealer in range(1, 11):
            for ace in (False, True):
                policy[blackjack_state(total, dealer, ace)] = STICK
    policy[OBSERVED : OBSERVED + 10] = STICK
    returns, firsts = [], []
    for game in range(4000):
        (total, dealer, ace), _ = env.reset(seed=game)
        firsts.append(blackjack_state(total, dealer, bool(ace)))
        over = False
        while not over:
            action = int(policy[blackjack_state(total, dealer, bool(ace))])
            (total, dealer, ace), reward, over, _, _ = env.step(action)
        returns.append(float(reward))
    expected = float(mdp.start @ mdp.policy_values(policy, 1.0))
    assert abs(np.mean(returns) - expected) < 3.3 * np.std(returns) / np.sqrt(len(returns))
    chances = mdp.start[:OBSERVED].copy()
    for dealer in range(1, 11):
        chances[blackjack_state(21, dealer, True)] += mdp.start[OBSERVED + dealer - 1]
    by_sum = chances.reshape(32, -1).sum(axis=1)
    counts = np.bincount(np.array(firsts) // 22, minlength=32)
    seen = by_sum > 0
    assert counts[~seen].sum() == 0
    assert stats.chisquare(counts[seen], 4000 * by_sum[seen]).pvalue > 0.001


def test_what_is_won_and_lost() -> None:
    mdp = blackjack()
    always = mdp.policy_values(np.full(mdp.num_states, HIT), 1.0)  # every game is lost
    assert always[blackjack_state(21, 10, False)] == -1
    assert mdp.rewards[WON, 0] == 1 == -mdp.rewards[LOST, 0]
    natural = mdp.policy_values(np.full(mdp.num_states, STICK), 1.0)[OBSERVED : OBSERVED + 10]
    np.testing.assert_allclose(natural, [1 - 4 / 13, *[1.0] * 8, 1 - 1 / 13])
