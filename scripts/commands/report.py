"""Output of the commands: progress while it lasts, tables at the end."""

from __future__ import annotations

import itertools
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from gridzero.agents.agent import Agent
from gridzero.agents.evaluation import Evaluation
from gridzero.agents.learner import Update
from gridzero.agents.runs import best_of, read_samples, typed_name
from gridzero.envs import plugins

REFRESH = 0.1
SAMPLES_EVERY = 0.5
LIVE = (
    "evaluation_return", "accuracy", "thought_length", "episode_return", "success_rate", "residual", "value_change",
    "td_error",
)  # fmt: skip
"""Metrics worth their place beside the bar, the best first; three are shown."""
_PLAIN: dict[str, Any] = {"box": None, "header_style": "bold", "pad_edge": False}
_TITLED = {**_PLAIN, "header_style": "dim"}
_NUMBER = re.compile(r"[-+]?[\d,.]*")
BESIDE = 40
"""Characters of spinner, bar and times beside the live metrics."""
LEAST_WIDTH = 12
"""Characters that a column of words has at least."""
LONGEST = 600
"""Characters of a completion beside the bar; what is between the ends of a longer one is left out."""


class Progress:
    """A bar with the live metrics on a terminal; nothing elsewhere.

    Args:
        steps: the budget in steps, if there is one.
        seconds: the budget in seconds, if there is one.
        shown: whether it is drawn at all.
        samples: show what the agent writes too, below the bar; without a terminal as lines.
    """

    def __init__(self, steps: int | None, seconds: float | None, *, shown: bool = True, samples: bool = False) -> None:
        self.steps, self.seconds = steps, seconds
        self._bar: _Bar | None = None
        self._samples = shown and samples
        self._next = self._next_samples = 0.0
        self._began = time.monotonic()
        if shown and sys.stderr.isatty():
            columns = [SpinnerColumn(), BarColumn(20), TextColumn("{task.description}"), TimeElapsedColumn()]
            if steps is not None or seconds is not None:
                columns.append(TimeRemainingColumn())
            self._bar = _Bar(*columns, console=Console(stderr=True), transient=True)

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("", total=self.steps or self.seconds)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def visible(self) -> bool:
        """Whether there is a terminal to draw on."""
        return self._bar is not None

    def show(self, update: Update) -> None:
        """Show an update; the bar is redrawn at most ten times a second."""
        now = time.monotonic()
        if self._samples and update.samples and now >= self._next_samples:
            self._next_samples = now + SAMPLES_EVERY
            self._show_samples(update)
        if self._bar is None or now < self._next:
            return
        self._next = now + REFRESH
        named = [name for name in LIVE if name in update.metrics] or list(update.metrics)
        words = [f"{name.replace('_', ' ')} {update.metrics[name]:,.3g}" for name in named[:3]]
        speed = [f"{update.metrics['steps_per_second']:,.0f}/s"] if "steps_per_second" in update.metrics else []
        room = self._bar.console.width - BESIDE
        while words and len("  ".join([f"{update.step:,}", *words, *speed])) > room:
            words.pop()
        done = update.step if self.steps else now - self._began
        self._bar.update(self._task, completed=done, description="  ".join([f"{update.step:,}", *words, *speed]))

    def _show_samples(self, update: Update) -> None:
        if self._bar is not None:
            self._bar.below = Text("\n").join(sample_text(sample, LONGEST) for sample in update.samples)
        else:
            print(f"after {update.step:,} steps:\n{sample_text(update.samples[0], LONGEST)}", file=sys.stderr)


@contextmanager
def waiting(title: str, done: int = 0, total: int = 1) -> Iterator[None]:
    """Show on a terminal what is being made, for how long already, and how much of the whole is done before it."""
    if not sys.stderr.isatty():
        yield
        return
    several = total > 1
    columns = [SpinnerColumn(), *([BarColumn(20)] if several else ()), TextColumn("{task.description}")]
    with Bar(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bar:
        bar.add_task(f"{done + 1} of {total}: {title}" if several else title, completed=done, total=total)
        yield


class _Bar(Bar):
    """A bar with something to read below it."""

    below: Text = Text()

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield self.below


def sample_text(sample: Mapping[str, Any], longest: int | None = None) -> Text:
    """A completion with its prompt and verdict."""
    completion = sample["completion"]
    if longest is not None and len(completion) > longest:
        completion = f"{completion[: longest // 2]} … {completion[-longest // 2 :]}"
    right, reason = sample["correct"], sample["reason"]
    text = Text.assemble((sample["prompt"], "bold"), completion, "\n")
    text.append("✓ right" if right else "✗ wrong", "bold green" if right else "bold red")
    return text.append("\n" if reason in ("", "right") else f"  {' '.join(reason.split())}\n", "dim")


def print_samples(path: Path) -> None:
    """Print the last samples of a run, if it has any."""
    rows = read_samples(path)
    if not rows:
        return
    last = [row for row in rows if row["step"] == rows[-1]["step"]]
    out = console()
    out.print(Text("\nwritten in the last update", "bold"))
    for row in last:
        out.print(sample_text(row), soft_wrap=True)


def console() -> Console:
    """The console of the tables: wide enough for them when nobody sees its width."""
    plain: dict[str, Any] = {"markup": False, "emoji": False}  # names and docstrings may have brackets and colons
    return Console(**plain) if sys.stdout.isatty() else Console(width=160, **plain)


def print_result(agent: Agent, path: Path, result: Evaluation, step: int, speed: float | None) -> None:
    """The small table at the end of training."""
    unit = "steps" if agent.default_steps is not None else "sweeps"
    title = f"{agent.name} after {step:,} {unit}"
    table = Table(show_header=False, box=None)
    for name, value in _rows(result):
        table.add_row(name, value)
    if speed is not None:
        table.add_row(f"{unit} per second", f"{speed:,.0f}")
    table.add_row("saved in", str(path))
    best = best_of(path)
    if best is not None and best[0] != step:
        table.add_row("best return on the way", f"{number(best[1])} at step {best[0]:,}: --from best takes it")
    table.add_row("to see it", f"gridzero watch {typed_name(path)}{plugins.import_flags()}")
    _print(console(), table, title)
    print_warnings({agent.name: result})


def _rows(result: Evaluation) -> list[tuple[str, str]]:
    rows = [("return", f"{with_interval(result.mean, result.low, result.high)} over {result.episodes} episodes")]
    if result.expected_return is not None:
        rows.append(("expected return, exact", f"{number(result.expected_return)}"))
    if result.optimum is not None:
        rows.append((f"optimum within {result.limit:,} steps", number(result.optimum)))
        rows.append(("gap to the optimum", gap(result)))
    if result.success is not None:
        rows.append(("success rate", with_interval(result.success, result.success_low, result.success_high)))
    rows += [(name, with_interval(*own)) for name, own in result.rewards.items()]
    rows.append(("episode length", f"{result.mean_length:,.1f}"))
    if result.value is not None and result.optimal_value is not None:
        values = f"{number(result.value)} of {number(result.optimal_value)}, gap {number(result.value_gap)}"
        rows.append((f"value at the start, gamma {result.gamma:g}, exact", values))
    return rows


def print_evaluations(results: Mapping[str, tuple[str, str, int, Evaluation]]) -> None:
    """A table with a row for each run: agent, environment, steps, and how good it is.

    On a narrow terminal what all have in common is above it; where that does not do, each run is a column.
    """
    words = ["run", "agent", "environment"]
    rewards = list(dict.fromkeys(name for *_, result in results.values() for name in result.rewards))
    numbers = ["steps", "return,\n95 % interval", "exact", "optimum", "gap", "success", "value gap", *rewards]
    rows = []
    for run, (agent, environment, step, result) in results.items():
        success = with_interval(result.success, result.success_low, result.success_high)
        rows.append([
            run, agent, environment, f"{step:,}", with_interval(result.mean, result.low, result.high),
            number(result.expected_return), number(result.optimum), gap(result), success, number(result.value_gap),
            *(with_interval(*result.rewards[name]) if name in result.rewards else "" for name in rewards),
        ])  # fmt: skip
    out = console()
    table, title = _fill(Table(**_PLAIN), words, numbers, rows), ""
    if not _fits(out, table):
        common = [i for i in range(1, len(words)) if len({row[i] for row in rows}) == 1 and len(rows) > 1]
        left = [i for i in range(len(rows[0])) if i not in common]
        title = ", ".join(rows[0][i] for i in common)
        own = [words[i] for i in range(len(words)) if i not in common]
        table = _fill(Table(**_PLAIN), own, numbers, [[row[i] for i in left] for row in rows])
    if _fits(out, table):
        _print(out, table, title)
    else:
        _print_columns(out, [*words, *numbers], rows)
    print_warnings({run: result for run, (_, _, _, result) in results.items()})


def _print_columns(out: Console, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows as columns, as many beside each other as there is room for."""
    named = [(name.replace("\n", " "), i) for i, name in enumerate(names) if any(row[i] for row in rows)]
    for count in range(len(rows), 0, -1):
        blocks = [rows[first : first + count] for first in range(0, len(rows), count)]
        tables = [Table(**_PLAIN) for _ in blocks]
        for table, block in zip(tables, blocks, strict=True):
            for _, i in named[:1]:
                table.add_column(names[i])
                for row in block:
                    table.add_column(row[i], overflow="fold")
            for name, i in named[1:]:
                table.add_row(name, *(row[i] for row in block))
        if all(_fits(out, table) for table in tables):
            break
    for number, table in enumerate(tables):
        out.print(*(["", table] if number else [table]), sep="\n")


def _fits(out: Console, table: Table) -> bool:
    """Whether a table has room on a console without breaking its lines."""
    return Measurement.get(out, out.options.update(max_width=10_000), table).maximum <= out.width


def print_warnings(results: Mapping[str, Evaluation]) -> None:
    """Print the warnings of evaluations, a line each."""
    for name, result in results.items():
        for warning in result.warnings:
            print(f"{name}: {warning}", file=sys.stderr)


def print_sweep(title: str, rows: Sequence[Any], metric: str | None = None) -> None:
    """A table with a row for each combination of settings, the best in bold: of :class:`summary.Row`."""
    table = Table(**_TITLED)
    names = list(rows[0].setting)
    numbers = ["seeds", f"{metric or 'return'},\n95 % bootstrap interval", "optimum", "gap", "success"]
    from gridzero.commands.summary import best_is_low

    best = (min if best_is_low(metric) else max)(row.mean for row in rows)
    cells = [
        [
            *(str(row.setting[name]) for name in names),
            str(len(row.returns)),
            number(row.mean) if len(row.returns) == 1 else with_interval(row.mean, row.low, row.high),
            number(row.optimum),
            number(row.gap),
            number(row.success),
        ]
        for row in rows
    ]
    _fill(table, names, numbers, cells)
    for line, row in zip(table.rows, rows, strict=True):
        line.style = "bold" if row.mean == best and len(rows) > 1 else None
    _print(console(), table, title)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A plain table: names in the first column and numbers stay in one piece where there is room for that."""
    out, table = console(), Table(**_TITLED)
    cells = [[name, *(row[i] for row in rows)] for i, name in enumerate(columns)]
    longest = [max(map(len, column)) for column in cells]
    numeric = [any(column[1:]) and all(map(_NUMBER.fullmatch, column[1:])) for column in cells]
    whole = [is_number or i == 0 for i, is_number in enumerate(numeric)]
    taken = sum(itertools.compress(longest, whole)) + 2 * len(cells)
    if taken + LEAST_WIDTH * whole.count(False) > out.width:
        whole = [False] * len(cells)
    for name, is_number, in_one_piece in zip(columns, numeric, whole, strict=True):
        table.add_column(name, overflow="fold", justify="right" if is_number else "left", no_wrap=in_one_piece)
    for row in rows:
        table.add_row(*row)
    _print(out, table, title)


def _fill(table: Table, words: Sequence[str], numbers: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Add columns of words, columns of numbers to the right, and rows; numbers that no row has get no column."""
    kept = [i for i in range(len(words) + len(numbers)) if i < len(words) or any(row[i] for row in rows)]
    for i in kept:
        if i < len(words):
            table.add_column(words[i], overflow="fold")
        else:
            table.add_column(numbers[i - len(words)], justify="right", overflow="fold")
    for row in rows:
        table.add_row(*(row[i] for i in kept))
    return table


def _print(out: Console, table: Table, title: str) -> None:
    """Print a table below its title, which may be wider."""
    if title:
        out.print(Text(title, "bold"), soft_wrap=True)
    out.print(table)


def number(value: Any) -> str:
    """Four significant digits; empty where there is none."""
    if value is None:
        return ""
    text = f"{value:,.4f}" if abs(value) < 100 else f"{value:,.1f}"
    return text.lstrip("-") if float(text.replace(",", "")) == 0 else text


def with_interval(mean: float | None, low: float | None, high: float | None) -> str:
    """A mean and its interval; empty where there is none."""
    return "" if mean is None else f"{number(mean)} [{number(low)}, {number(high)}]"


def gap(result: Evaluation) -> str:
    """The gap to the optimum."""
    return number(result.gap)
