"""``gridzero figure``: figures of books and papers, made anew, with their numbers beside the published ones."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from gridzero import figures
from gridzero.agents.config_checks import check_at_least
from gridzero.commands.arguments import parse


@dataclass(frozen=True)
class Options:
    """Make figures of books and papers anew: a picture of each, and its numbers beside the published ones.

    Exits with 1 when a number is not the published one.

    Example: gridzero figure zhao-3
    """

    names: tyro.conf.Positional[tuple[str, ...]] = ()
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

    def __post_init__(self) -> None:
        check_at_least(self, 0, "seed")
        if self.all and self.names:
            raise ValueError("names of figures, or --all: not both")


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
    options.folder.mkdir(parents=True, exist_ok=True)
    differ = []
    for name, module in modules.items():
        if not _make(module, options.folder / f"{name}.{options.format}", options.seed):
            differ.append(name)
    if differ and len(modules) > 1:
        print(f"not as published: {', '.join(differ)}")
    return int(bool(differ))


def _make(module: figures.Module, path: Path, seed: int) -> bool:
    """Draw one figure and print its table; whether every number agrees."""
    from gridzero.commands import report

    began = time.monotonic()
    figure = module.make(seed)
    figure.picture.savefig(path)
    agreement = {True: "yes", False: "NO", None: ""}
    rows = [[row.quantity, row.published or "", row.ours, agreement[row.agrees]] for row in figure.rows]
    report.print_table(figure.source, ["quantity", "published", "ours", "agrees"], rows)
    print(f"drawn in {path} after {time.monotonic() - began:.1f} s\n", flush=True)
    return all(row.agrees is not False for row in figure.rows)
