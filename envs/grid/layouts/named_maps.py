"""The named maps, each with the settings that make ``GridWorld(layout=name)`` the example of its source."""

from __future__ import annotations

_ZHAO = "actions = 5\ntarget_terminal = false\n"
_STEP_COSTS = "reward_step = -1\nreward_boundary = -1\nreward_target = -1\n"
_ONLY_GOAL = "reward_boundary = 0\n"

_ZHAO_5X5 = """
.....
.xx..
..x..
.xGx.
.x...

"""
_LAKE_4X4 = """
SFFF
FHFH
FFFH
HFFG

slip = 2/3
"""
_LAKE_8X8 = """
SFFFFFFF
FFFFFFFF
FFFHFFFF
FFFFFHFF
FFFHFFFF
FHHFFFHF
FHFFHFHF
FFFHFFFG

slip = 2/3
"""
_WINDY = """
...1112210
...1112210
...1112210
S..1112G10
...1112210
...1112210
...1112210

0: name="free"
"""

LIBRARY: dict[str, str] = {
    # Zhao, Mathematical Foundations of Reinforcement Learning: fig. 4.2, the world of ch. 1 (and ch. 5's MC Basic
    # example), and the 5x5 world of ch. 2 to 9, "strict" with the reward of -10 for forbidden cells.
    "zhao-2x2": ".x\n.G\n\n" + _ZHAO,
    "zhao-3x3": "...\n..x\nx.G\n\n" + _ZHAO,
    "zhao-5x5": _ZHAO_5X5 + _ZHAO,
    "zhao-5x5-strict": _ZHAO_5X5 + _ZHAO + "reward_forbidden = -10\n",
    # Sutton & Barto, Reinforcement Learning, 2nd edition: examples 3.5, 4.1, 6.2 (and 7.1), 6.5 (and exercise 6.9),
    # 6.6, 8.1, 8.2 and 8.3; the last two also as they are after the change.
    "sutton-3.5": """
.A.B.
.....
...b.
.....
.a...

A: leads_to=a, leaving_reward=10
B: leads_to=b, leaving_reward=5
a: name="A′"
b: name="B′"
""",
    "sutton-4.1": "G...\n....\n....\n...G\n\n" + _STEP_COSTS,
    "random-walk": "H..S..G\n\n" + _ONLY_GOAL,
    "random-walk-19": "L.........S.........G\n\nL: name=left end, ends, reward=-1\n" + _ONLY_GOAL,
    "windy": _WINDY + _STEP_COSTS,
    "windy-king": _WINDY + _STEP_COSTS + "actions = 8\n",
    "cliff": "............\n............\n............\nSCCCCCCCCCCG\n\nC: name=cliff, reward=-100, sends_to=S\n"
    + _STEP_COSTS,
    "dyna-maze": """
.......#G
..#....#.
S.#....#.
..#......
.....#...
.........

"""
    + _ONLY_GOAL,
    "blocking-maze": "........G\n.........\n.........\n########.\n.........\n...S.....\n\n" + _ONLY_GOAL,
    "blocking-maze-blocked": "........G\n.........\n.........\n.########\n.........\n...S.....\n\n" + _ONLY_GOAL,
    "shortcut-maze": "........G\n.........\n.........\n.########\n.........\n...S.....\n\n" + _ONLY_GOAL,
    "shortcut-maze-open": "........G\n.........\n.........\n.#######.\n.........\n...S.....\n\n" + _ONLY_GOAL,
    # Russell & Norvig, Artificial Intelligence: A Modern Approach, fig. 17.1. Each step costs 0.04, also the last.
    "aima-4x3": """
...G
.#.H
S...

H: name=pit, ends, reward=-1.04
reward_step = -0.04
reward_boundary = -0.04
reward_target = 0.96
slip = 0.2
""",
    # Gymnasium's FrozenLake-v1 maps.
    "frozen-lake-4x4": _LAKE_4X4 + _ONLY_GOAL,
    "frozen-lake-8x8": _LAKE_8X8 + _ONLY_GOAL,
    # Sutton, Precup & Singh (1999), fig. 2, with the goal in the east hallway; moves fail with probability 1/3.
    "four-rooms": """
#############
#.....#.....#
#.....#.....#
#...........#
#.....#.....#
#.....#.....#
##.####.....#
#.....###G###
#.....#.....#
#.....#.....#
#...........#
#.....#.....#
#############

slip = 1/3
slip_to = any
"""
    + _ONLY_GOAL,
}
