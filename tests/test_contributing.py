"""The examples of CONTRIBUTING.md, written to files, and the commands below them."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
SECTIONS = [section for section in re.split(r"^## ", TEXT, flags=re.MULTILINE) if "```sh" in section]
SERVER = """
import json, os, sys
import gridzero.agents.neural.ppo, gridzero.commands.evaluate, gridzero.commands.train, gridzero.envs.rendering
import gridzero.llm_rl.policies.language_policy
from gridzero.__main__ import main

for line in sys.stdin:
    folder, arguments = json.loads(line)
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        output = os.open("output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(output, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        status = main(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Each command in a process of its own, forked from one that has imported what takes seconds to import."""


@pytest.fixture(scope="module")
def server() -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "SDL_VIDEODRIVER": "dummy", "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.splitlines()[0])
def test_the_commands_below_an_example_run(section: str, tmp_path: Path, server: subprocess.Popen[str]) -> None:
    assert server.stdin is not None
    assert server.stdout is not None
    for code in re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL):
        name = re.match(r"# (\w+\.py)\n", code)
        assert name is not None, code
        (tmp_path / name[1]).write_text(code)
    for block in re.findall(r"```sh\n(.*?)```", section, flags=re.DOTALL):
        for line in block.replace("\\\n", " ").strip().splitlines():
            command, *arguments = shlex.split(line)
            assert command == "gridzero"
            print(json.dumps([str(tmp_path), arguments]), file=server.stdin, flush=True)
            assert int(server.stdout.readline()) == 0, f"{line}\n{(tmp_path / 'output').read_text()}"
