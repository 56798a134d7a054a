"""The examples of CONTRIBUTING.md, written to files, and the commands below them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
SECTIONS = [section for section in re.split(r"^## ", TEXT, flags=re.MULTILINE) if "```sh" in section]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.splitlines()[0])
def test_the_commands_below_an_example_run(section: str, tmp_path: Path) -> None:
    for code in re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL):
        name = re.match(r"# (\w+\.py)\n", code)
        assert name is not None, code
        (tmp_path / name[1]).write_text(code)
    for block in re.findall(r"```sh\n(.*?)```", section, flags=re.DOTALL):
        for line in block.replace("\\\n", " ").strip().splitlines():
            command, *arguments = shlex.split(line)
            assert command == "gridzero"
            done = subprocess.run(
                [sys.executable, "-m", "gridzero", *arguments],
                cwd=tmp_path,
                env={**os.environ, "SDL_VIDEODRIVER": "dummy", "PYTHONSAFEPATH": "1"},
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, f"{line}\n{done.stderr}"
