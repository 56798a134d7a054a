"""Beam search over steps, by process reward."""

from __future__ import annotations

from gridzero.llm_rl.search.scorers import ProcessScorer, prefix_scores
from gridzero.llm_rl.search.steps import Prefix, StepWriter

EXPANSIONS = 4
"""Continuations of each prefix."""


def beam_search(writer: StepWriter, scorer: ProcessScorer, width: int, tokens: int | None = None) -> list[str]:
    """The best completion of each problem.

    Each of the ``width`` best prefixes is continued by a step in a few ways, of which, finished ones among them, the
    best stay, until all that stay are finished.

    Args:
        writer: continues prefixes, and counts tokens.
        scorer: judges them.
        width: prefixes of a problem that are kept.
        tokens: no step is begun once a problem has spent so many.

    Returns:
        Their texts; an unfinished one where the budget ended first.

    Source: Snell et al. (2024), Scaling LLM test-time compute optimally, section 5.1.
    """
    beams: list[list[tuple[float, Prefix]]] = [[(1.0, Prefix(i))] for i in range(len(writer.prompts))]
    while True:
        going = [
            prefix
            for i, beam in enumerate(beams)
            if tokens is None or writer.spent[i] < tokens
            for _, prefix in beam
            if not prefix.finished
        ]
        if not going:
            return [max(beam, key=lambda pair: (pair[1].finished, pair[0]))[1].text for beam in beams]
        found = {one: None for row in writer.extend(going, EXPANSIONS) for one in row}  # each only once
        scores = prefix_scores(scorer, [writer.prompts[one.problem] for one in found], [one.text for one in found])
        continued = {prefix.problem for prefix in going}
        pools = {i: [pair for pair in beams[i] if pair[1].finished] for i in continued}
        for one, score in zip(found, scores, strict=True):
            pools[one.problem].append((score, one))
        for i, pool in pools.items():
            beams[i] = sorted(pool, key=lambda pair: -pair[0])[:width]
