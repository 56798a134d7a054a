"""Report of a recipe: how good the model of each stage is, on the same held-out problems."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gridzero.agents import files, runs
from gridzero.agents.episodes import copy_environment
from gridzero.envs.tasks.task import Task
from gridzero.recipes import curves
from gridzero.recipes.recipe import SCORERS, Recipe

REPORT, RESULTS, PICTURE, CURVES = "report.md", "results.json", "report.png", "curves.png"
BASE = "base model"


def write_report(
    path: Path, recipe: Recipe, stages: Mapping[str, Sequence[str]], problems: int, samples: int, seed: int
) -> None:
    """Measure the stages, write ``report.md``, ``results.json`` and ``report.png``, and print the table.

    Of the stages that are compared also the tables at equal cost, and ``curves.png``.

    Args:
        path: folder of the recipe.
        recipe: its stages.
        stages: the command line of each.
        problems: held-out problems.
        samples: completions of each that are drawn.
        seed: decides problems and draws.
    """
    from gridzero.commands import report

    with report.waiting("measuring the stages"):
        rows = measured(path, recipe, problems, samples, seed)
    files.replace_file(path / RESULTS, json.dumps(rows, indent=1).encode() + b"\n")
    columns, table = as_table(rows, samples)
    report.print_table(recipe.about, columns, table)
    lines = [
        f"# {recipe.about}",
        "",
        *([f"After {recipe.source}.", ""] if recipe.source else []),
        f"On {problems} held-out problems: right answers with the most likely tokens (greedy), drawn at the model's "
        f"temperature (sampled, {samples} each), at least one of those (pass@{samples}), the most frequent answer "
        f"(majority@{samples}), each with its 95 % interval; form of the drawn ones; KL from the base in nats a "
        "completion, with its standard error; parameters that were trained; tokens that were written in training, or "
        "read, and the seconds of one core that it took.",
        "",
        *as_markdown(columns, table),
        f"![Right answers of each stage]({PICTURE})",
        "",
        *_compared(path, [row for row in rows if "curve" in row]),
        "The stages, as commands:",
        "",
        "```sh",
        *(f"gridzero train {shlex.join(words)}" for words in stages.values()),
        "```",
        "",
    ]
    files.replace_file(path / REPORT, "\n".join(lines).encode())
    _draw(rows, path / PICTURE, samples)
    print(f"written to {path / REPORT}")


def as_markdown(columns: Sequence[str], table: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table."""
    return [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}", *(f"| {' | '.join(row)} |" for row in table), ""]


def _compared(path: Path, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines about stages at equal cost, which are drawn too; none where none are compared."""
    from gridzero.commands import report

    if not rows:
        return []
    draws = rows[0]["curve"][-1]["completions"]
    lines = [
        f"At equal cost, by the last checkpoint of each within it ({draws} completions of each problem are drawn). "
        "A stage's learning rate falls over all of it, which may be more; a teacher's own training is not counted.",
        "",
    ]
    for cost, unit in curves.COSTS.items():
        title = f"at {curves.amount(curves.common_budget(rows, cost))} {unit}"
        columns, table = curves.equal_cost(rows, cost)
        report.print_table(title, columns, table)
        lines += [f"{title[0].upper()}{title[1:]}:", "", *as_markdown(columns, table)]
    curves.draw(rows, path / CURVES)
    return [*lines, f"![Right answers over tokens and CPU seconds]({CURVES})", ""]


def measured(path: Path, recipe: Recipe, problems: int, samples: int, seed: int) -> list[dict[str, Any]]:
    """Measures of the base and of each stage that writes, as JSON holds them."""
    from gridzero.llm_rl.policies.language_options import LanguageOptions
    from gridzero.llm_rl.policies.language_policy import LanguagePolicy
    from gridzero.llm_rl.search.attempts import draw_problems, measure

    agents: dict[str, Any] = {stage.name: runs.load(path / stage.name) for stage in recipe.stages}
    first: Any = next(iter(agents.values()))
    task = held_out_task(first)
    drawn = draw_problems(task, problems, seed)
    models = {name: agent.network for name, agent in agents.items() if agent.name not in SCORERS}
    if recipe.base is None:
        base = LanguagePolicy.load(LanguageOptions(), first.env.unwrapped.task, limit=first.network.limit)
        models = {BASE: base, **models}
    else:
        base = models[recipe.base]
    rows: dict[str, dict[str, Any]] = {}
    for name, policy in models.items():
        found = measure(policy, task, drawn, samples, seed, None if policy is base else base)
        spent = {"tokens": 0, "seconds": 0.0} if name == BASE else list(curves.spending(path / name).values())[-1]
        trained = 0 if name == BASE else sum(parameter.numel() for parameter in policy.trained())
        rows[name] = {"stage": name, **asdict(found), "parameters": trained, "training": spent}
    draws = min(samples, curves.DRAWS)
    for stage in (stage for stage in recipe.stages if stage.name in recipe.compared):
        start = rows.get(stage.begins_with or BASE)
        points = [] if start is None else [{"step": 0, "tokens": 0, "seconds": 0.0, **_measures(start)}]
        points += curves.curve(path / stage.name, lambda policy: measure(policy, task, drawn, draws, seed, base))
        rows[stage.name]["curve"] = points
    return list(rows.values())


def _measures(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("greedy", "sampled", "any", "majority", "form", "kl")}


def held_out_task(agent: Any) -> Task:
    """The task of an agent's environment, with the problems that are held out of training."""
    copy, _ = copy_environment(agent.env, 1, 1)
    task: Task = copy.unwrapped.task  # type: ignore[attr-defined]  # of environments of texts
    copy.close()
    return task


def as_table(rows: Sequence[Mapping[str, Any]], samples: int) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the table, as texts."""
    columns = ["stage", "greedy", "sampled", f"pass@{samples}", f"majority@{samples}", "form", "KL to base"]
    columns += ["trained", "tokens", "CPU seconds"]
    table = [
        [
            row["stage"],
            *(curves.share(row[name]) for name in ("greedy", "sampled", "any", "majority")),
            f"{row['form']:.3f}",
            curves.divergence(row["kl"]),
            f"{row['parameters']:,}" if row["parameters"] else "",
            f"{row['training']['tokens']:,}" if row["training"]["tokens"] else "",
            f"{row['training']['seconds']:.0f}" if row["training"]["seconds"] else "",
        ]
        for row in rows
    ]
    return columns, table


def _draw(rows: Sequence[Mapping[str, Any]], path: Path, samples: int) -> None:
    """Greedy and sampled accuracy of each stage, with intervals, and pass@n as a mark."""
    from gridzero.plotting.figure import canvas

    picture = canvas(7.2, 0.55 * len(rows) + 1.4)
    axes = picture.subplots()
    places = range(len(rows))
    for name, label, offset, color in (("greedy", "greedy", -0.19, "#2b6cb0"), ("sampled", "sampled", 0.19, "#dd9b3f")):
        values = [row[name]["value"] for row in rows]
        errors = [
            [max(0.0, row[name]["value"] - row[name]["low"]) for row in rows],
            [max(0.0, row[name]["high"] - row[name]["value"]) for row in rows],
        ]
        style = {"ecolor": "0.25", "capsize": 2, "error_kw": {"lw": 0.9}}
        axes.barh([place + offset for place in places], values, 0.36, xerr=errors, color=color, label=label, **style)
    axes.plot(
        [row["any"]["value"] for row in rows],
        list(places),
        "k|",
        ms=14,
        mew=1.6,
        clip_on=False,
        label=f"pass@{samples}",
    )
    axes.set_yticks(list(places), [row["stage"] for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("right answers on held-out problems")
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    picture.legend(loc="outside lower center", ncol=3, frameon=False)
    picture.savefig(path)
