"""``gridzero figure``: figures of books and papers, made anew, with their numbers beside the published ones."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypedDict, cast

import tyro

from gridzero import figures
from gridzero.agents import files
from gridzero.agents.config_checks import check_at_least
from gridzero.commands.arguments import parse
from gridzero.envs.folders import check_folder

FORMAT, VERSION = "gridzero-figure", 1


@dataclass(frozen=True)
class Options:
    """Make figures of books and papers anew: a picture of each, and its numbers beside the published ones.

    Exits with 1 when a number is not the published one.

    Example: gridzero figure zhao-3
    """

    names: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="[NAME ...]")]] = ()
    """Which; `gridzero figure --list` names them."""
    list: bool = False
    """List the figures there are."""
    all: bool = False
    """Make every one of them."""
    seed: int = 0
    """Decides everything that is random."""
    folder: Path = Path()
    """Where the pictures go; made if need be. A picture of that name is replaced."""
    format: Literal["png", "svg", "pdf"] = "png"
    """Of the pictures."""
    resume: bool = False
    """Go on after an interruption: what the folder has already, of this seed and format, is not made again."""

    def __post_init__(self) -> None:
        check_at_least(self, 0, "seed")
        if self.all and self.names:
            raise ValueError("names of figures, or --all: not both")
        if self.list and (self.names or self.all):
            raise ValueError("--list lists them all: leave out names and --all")


def main(argv: Sequence[str]) -> int:
    """Run the command.

    Returns:
        0 if every number agrees with the published one, else 1.
    """
    options = parse(Options, argv, "figure")
    if options.list:
        from gridzero.commands import report

        report.print_table("figures", ["name", "what it shows"], [[n, figures.title(n)] for n in figures.names()])
        return 0
    names = figures.names() if options.all else options.names
    if not names:
        raise ValueError("which figure? `gridzero figure NAME`; `gridzero figure --list` names them")
    modules = {name: figures.load(name) for name in names}
    check_folder(options.folder, new=True)
    options.folder.mkdir(parents=True, exist_ok=True)
    differ = []
    for number, (name, module) in enumerate(modules.items()):
        table = _made(options, name) if options.resume else None
        try:
            table = table or _make(module, options, name, (number, len(modules)))
        except KeyboardInterrupt:
            if len(modules) > 1:
                done = f"{number} of {len(modules)} figures are made"
                print(f"gridzero: {done}; the same command with --resume goes on", file=sys.stderr)
            raise
        _print(table, options.folder / f"{name}.{options.format}")
        if any(row["agrees"] is False for row in table["rows"]):
            differ.append(name)
    if differ and len(modules) > 1:
        print(f"not as published: {', '.join(differ)}")
    return int(bool(differ))


class _Row(TypedDict):
    """A :class:`~gridzero.figures.figure.Row` as data."""

    quantity: str
    published: str | None
    ours: str
    agrees: bool | None


class _Table(TypedDict):
    """Table of a figure as it is kept beside its picture."""

    source: str
    seed: int
    seconds: float
    rows: list[_Row]


def _make(module: figures.Module, options: Options, name: str, place: tuple[int, int]) -> _Table:
    """Draw one figure and write its picture, then its table: where that is, the figure is whole."""
    from gridzero.commands import report

    began = time.monotonic()
    path = options.folder / f"{name}.{options.format}"
    path.with_suffix(".json").unlink(missing_ok=True)
    with report.waiting(name, *place):
        figure = module.make(options.seed)
    figure.picture.savefig(path)
    rows = [cast(_Row, dataclasses.asdict(row)) for row in figure.rows]
    table = _Table(source=figure.source, seed=options.seed, seconds=round(time.monotonic() - began, 1), rows=rows)
    files.replace_file(path.with_suffix(".json"), files.signed(table, FORMAT, VERSION))
    return table


def _made(options: Options, name: str) -> _Table | None:
    """The table of a figure that the folder has already, picture and all; else None."""
    path = options.folder / f"{name}.{options.format}"
    if not path.exists():
        return None
    try:
        table = cast(_Table, files.read_signed(path.with_suffix(".json"), FORMAT, VERSION, _Table))
    except files.DamagedError:
        return None
    return table if table["seed"] == options.seed else None


def _print(table: _Table, path: Path) -> None:
    from gridzero.commands import report

    agreement = {True: "yes", False: "NO", None: ""}
    rows = [[row["quantity"], row["published"] or "", row["ours"], agreement[row["agrees"]]] for row in table["rows"]]
    report.print_table(table["source"], ["quantity", "published", "ours", "agrees"], rows)
    print(f"drawn in {path} after {table['seconds']:.1f} s\n", flush=True)
