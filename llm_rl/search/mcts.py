"""Monte Carlo tree search over the steps of a completion."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field

from gridzero.llm_rl.search.scorers import ProcessScorer, Scorer, prefix_scores
from gridzero.llm_rl.search.steps import Prefix, StepWriter

EXPANSIONS = 4
"""Continuations that a prefix gets at a time."""
EXPLORATION = 1.0
"""Constant c of the upper confidence bound, for values relative to the range in the tree."""


@dataclass
class Node:
    """A prefix in the tree.

    Attributes:
        prefix: what is written.
        parent: the prefix before its last step; None for the root.
        prior: the share of its parent's continuations that were this one.
        visits: how often it was passed.
        total: sum of the values that were backed up through it.
        children: its different continuations.
        closed: nothing new can be found below.
    """

    prefix: Prefix
    parent: Node | None = None
    prior: float = 1.0
    visits: int = 0
    total: float = 0.0
    children: list[Node] = field(default_factory=list)
    closed: bool = False


@dataclass
class Tree:
    """The search about one problem.

    Attributes:
        root: the empty prefix.
        low: the least value so far.
        high: the greatest.
        answers: finished completions with their scores.
    """

    root: Node
    low: float = math.inf
    high: float = -math.inf
    answers: dict[str, float] = field(default_factory=dict)

    def select(self) -> Node:
        """The prefix to continue: down by PUCT, past what is closed."""
        node = self.root
        while True:
            open_ones = [child for child in node.children if not child.closed]
            if not open_ones:
                return node
            node = max(open_ones, key=functools.partial(self._bound, node))

    def _bound(self, parent: Node, child: Node) -> float:
        scale = self.high - self.low
        mean = (child.total / child.visits - self.low) / scale if child.visits and scale > 0 else 0.0
        return mean + EXPLORATION * child.prior * math.sqrt(parent.visits + 1) / (1 + child.visits)

    def grow(self, node: Node, found: list[Prefix], values: dict[Prefix, float]) -> None:
        """Take in continuations of a node: new children with their values; a node without a new one is closed."""
        known = {child.prefix for child in node.children}
        counts: dict[Prefix, int] = {}
        for prefix in found:
            counts[prefix] = counts.get(prefix, 0) + 1
        new = [prefix for prefix in counts if prefix not in known]
        node.closed = not new
        for prefix in new:
            child = Node(prefix, node, counts[prefix] / len(found), closed=prefix.finished)
            node.children.append(child)
            self._back_up(child, values[prefix])

    def _back_up(self, node: Node, value: float) -> None:
        self.low, self.high = min(self.low, value), max(self.high, value)
        above: Node | None = node
        while above is not None:
            above.visits += 1
            above.total += value
            above = above.parent


def tree_search(writer: StepWriter, scorer: Scorer, simulations: int, tokens: int | None = None) -> list[str]:
    """The best completion of each problem that a tree of steps has.

    In each simulation the most promising prefix is continued by a step in a few ways. A process scorer says what they
    are worth; another scorer, what random completions of them are, which cost tokens too. Finished completions are
    closed, so that the search goes on to spend its budget elsewhere.

    Args:
        writer: continues prefixes, and counts tokens.
        scorer: judges them.
        simulations: of each problem, at most.
        tokens: none begins once a problem has spent so many; then only they count.

    Returns:
        Texts; an unfinished one where nothing was finished.

    Source: Silver et al. (2017), AlphaGo Zero (PUCT); Hao et al. (2023), Reasoning with language model is planning with
    world model; Zhang et al. (2024), ReST-MCTS*.
    """
    trees = [Tree(Node(Prefix(i))) for i in range(len(writer.prompts))]
    rounds = 0
    while tokens is not None or rounds < simulations:
        rounds += 1
        going = [
            tree
            for i, tree in enumerate(trees)
            if not tree.root.closed and (tokens is None or writer.spent[i] < tokens)
        ]
        if not going:
            break
        chosen = [tree.select() for tree in going]
        continued = writer.extend([node.prefix for node in chosen], EXPANSIONS)
        values = _values(writer, scorer, {one: None for row in continued for one in row}, trees)
        for tree, node, row in zip(going, chosen, continued, strict=True):
            tree.grow(node, row, values)
    return [_best(tree) for tree in trees]


def _values(writer: StepWriter, scorer: Scorer, prefixes: dict[Prefix, None], trees: list[Tree]) -> dict[Prefix, float]:
    """Values of prefixes; finished completions that are judged are kept in their trees."""
    judged = list(prefixes)
    if not isinstance(scorer, ProcessScorer):
        begun = [one for one in prefixes if not one.finished]
        ends = dict(zip(begun, (row[0] for row in writer.extend(begun, 1, to_end=True)), strict=True))
        judged = [ends.get(one, one) for one in prefixes]
    prompts, texts = [writer.prompts[one.problem] for one in judged], [one.text for one in judged]
    if isinstance(scorer, ProcessScorer):
        scores = prefix_scores(scorer, prompts, texts)
    else:
        scores = scorer.scores(prompts, texts)
    for one, score in zip(judged, scores, strict=True):
        if one.finished:
            trees[one.problem].answers[one.text] = score
    return dict(zip(prefixes, scores, strict=True))


def _best(tree: Tree) -> str:
    if tree.answers:
        return max(tree.answers, key=lambda text: tree.answers[text])
    node = tree.root
    while node.children:
        node = max(node.children, key=lambda child: child.visits)
    return node.prefix.text
