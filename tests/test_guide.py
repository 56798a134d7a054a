"""The commands of the guide's pages, run one after the other in a folder of their own."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from gridzero.__main__ import main

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(path for path in DOCS.glob("*/*.md") if "```sh" in path.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_the_commands_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
        for line in block.replace("\\\n", " ").strip().splitlines():
            command, *words = shlex.split(line, comments=True)
            assert command == "gridzero"
            if words[0] == "watch" and "--record" not in words:
                words += ["--record", "page.gif", "--episodes", "1"]
            assert main(words) == 0, line


@pytest.mark.parametrize("page", sorted(DOCS.glob("*/*.md")), ids=lambda path: path.stem)
def test_pictures_of_a_page_exist(page: Path) -> None:
    for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / picture).is_file(), picture
