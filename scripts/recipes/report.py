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
from gridzero.recipes.recipe import Recipe

REPORT, RESULTS, PICTURE = "report.md", "results.json", "report.png"
BASE = "base model"
SCORERS = ("reward-model", "process-reward-model")


def write_report(
    path: Path, recipe: Recipe, stages: Mapping[str, Sequence[str]], problems: int, samples: int, seed: int
) -> None:
    """Measure the stages, write ``report.md``, ``results.json`` and ``report.png``, and print the table.

    Args:
        path: folder of the recipe.
        recipe: its stages.
        stages: the command line of each.
        problems: held-out problems.
        samples: completions of each that are drawn.
        seed: decides problems and draws.
    """
    from gridzero.commands import report

    rows = measured(path, recipe, problems, samples, seed)
    files.replace_file(path / RESULTS, json.dumps(rows, indent=1).encode() + b"\n")
    columns, table = as_table(rows, samples)
    lines = [
        f"# {recipe.about}",
        "",
        *([f"After {recipe.source}.", ""] if recipe.source else []),
        f"On {problems} held-out problems: right answers with the most likely tokens (greedy), drawn at the model's "
        f"temperature (sampled, {samples} each), at least one of those (pass@{samples}), the most frequent answer "
        f"(majority@{samples}), each with its 95 % interval; form of the drawn ones; KL from the base in nats a "
        "completion, with its standard error; parameters that were trained; tokens that were written in training and "
        "the seconds of one core that it took.",
        "",
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
        *(f"| {' | '.join(row)} |" for row in table),
        "",
        f"![Right answers of each stage]({PICTURE})",
        "",
        "The stages, as commands:",
        "",
        "```sh",
        *(f"gridzero train {shlex.join(words)}" for words in stages.values()),
        "```",
        "",
    ]
    files.replace_file(path / REPORT, "\n".join(lines).encode())
    _draw(rows, path / PICTURE, samples)
    report.print_table(recipe.about, columns, table)
    print(f"written to {path / REPORT}")


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
    rows = []
    for name, policy in models.items():
        found = measure(policy, task, drawn, samples, seed, None if policy is base else base)
        spent = {"tokens": 0, "seconds": 0.0} if name == BASE else spending(path / name)
        trained = 0 if name == BASE else sum(parameter.numel() for parameter in policy.trained())
        rows.append({"stage": name, **asdict(found), "parameters": trained, "training": spent})
    return rows


def held_out_task(agent: Any) -> Task:
    """The task of an agent's environment, with the problems that are held out of training."""
    copy, _ = copy_environment(agent.env, 1, 1)
    task: Task = copy.unwrapped.task  # type: ignore[attr-defined]  # of environments of texts
    copy.close()
    return task


def spending(run: Path) -> dict[str, float]:
    """Tokens that were written in a training, and its CPU seconds."""
    tokens, step, seconds = 0.0, 0, 0.0
    for row in runs.read_metrics(run):
        tokens += (row["step"] - step) * (row.get("completion_length") or 0.0)
        step, seconds = row["step"], row.get("cpu_seconds", row["seconds"])
    return {"tokens": round(tokens), "seconds": seconds}


def as_table(rows: Sequence[Mapping[str, Any]], samples: int) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the table, as texts."""
    columns = ["stage", "greedy", "sampled", f"pass@{samples}", f"majority@{samples}", "form", "KL to base"]
    columns += ["trained", "tokens", "CPU seconds"]
    table = []
    for row in rows:
        kl = "" if row["kl"] is None else f"{row['kl'][0]:.2f} ± {row['kl'][1]:.2f}"
        table.append(
            [
                row["stage"],
                *(_share(row[name]) for name in ("greedy", "sampled", "any", "majority")),
                f"{row['form']:.3f}",
                kl,
                f"{row['parameters']:,}" if row["parameters"] else "",
                f"{row['training']['tokens']:,}" if row["training"]["tokens"] else "",
                f"{row['training']['seconds']:.0f}" if row["training"]["seconds"] else "",
            ]
        )
    return columns, table


def _share(one: Mapping[str, float]) -> str:
    return f"{one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"


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
