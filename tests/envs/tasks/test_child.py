"""The process for judges that may not end: it is killed and comes back, and can do little but judge."""

from __future__ import annotations

import importlib.machinery
import os
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from gridzero.envs.tasks import child, make_task
from gridzero.envs.tasks.child import Child, ChildError, StartError, call


def test_it_lives_on_between_calls_and_is_another_process() -> None:
    where = Child("os:getpid", "json")
    first = where()
    assert first == where() != os.getpid()
    where.close()
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    assert where() != first
    where.close()


def test_what_takes_too_long_is_killed_and_the_next_call_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "SECONDS", 0.5)
    power = Child("operator:pow", "json")
    assert power(3, 4) == 81
    process = power._process
    assert process is not None
    began = time.monotonic()
    with pytest.raises(ChildError, match=r"longer than 0\.5 seconds"):
        power(3, 3**20)  # one long operation, which no alarm inside would interrupt
    assert time.monotonic() - began < 20
    assert process.poll() is not None
    assert power(3, 4) == 81
    power.close()


def test_memory_is_limited() -> None:
    much = Child("builtins:bytearray", "json")
    with pytest.raises(ChildError, match="MemoryError"):
        much(child.MEMORY)
    much.close()


def test_a_judge_that_runs_what_it_reads_can_do_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("kept").touch()
    careless = Child("builtins:eval", "json")
    assert careless("6 * 4") == 24
    for code in HARMFUL:
        with pytest.raises(ChildError, match="judging an answer needs no"):
            careless(code)
    careless.close()
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


HARMFUL = (
    "__import__('os').system('touch executed')",
    "__import__('subprocess').run(['touch', 'executed'])",
    "__import__('socket').create_connection(('localhost', 1))",
    "__import__('pathlib').Path('executed').write_text('')",
    "__import__('os').fork()",
    "__import__('os').remove('kept')",
    "__import__('shutil').rmtree('.')",
    "__import__('os').kill(1, 0)",
    "__import__('ctypes').string_at(0)",
)


def test_errors_of_the_judge_are_reported_and_it_goes_on() -> None:
    careless = Child("builtins:eval", "json")
    with pytest.raises(ChildError, match="ZeroDivisionError: division by zero"):
        careless("1 / 0")
    with pytest.raises(ChildError, match="SystemExit"):
        careless("exit(3)")
    with pytest.raises(ChildError, match="not JSON serializable"):
        careless("{1, 2}")
    assert careless("print('24') or 25") == 25  # what it prints is not taken for an answer
    careless.close()


def test_a_process_that_dies_is_begun_anew() -> None:
    where = Child("os:getpid", "json")
    os.kill(where(), 9)
    time.sleep(0.2)
    assert where() > 0
    where.close()
    careless = Child("builtins:eval", "json")
    with pytest.raises(ChildError, match="killed"):
        careless("__import__('os')._exit(1)")
    assert careless("24") == 24
    careless.close()


def test_a_missing_library_is_an_error() -> None:
    with pytest.raises(StartError, match="no_such_library does not start: ModuleNotFoundError"):
        call("os:getpid", "no_such_library")


def test_a_judge_that_cannot_start_is_not_a_wrong_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "problems.jsonl"
    path.write_text('{"question": "q", "answer": "1"}\n')
    installed = types.ModuleType("math_verify")
    installed.__spec__ = importlib.machinery.ModuleSpec("math_verify", None)
    monkeypatch.setitem(sys.modules, "math_verify", installed)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    monkeypatch.setattr(child, "_CHILDREN", {})
    with pytest.raises(StartError, match="math_verify does not start"):
        make_task("jsonl", path=str(path), compare="math")


def test_modules_of_the_current_folder_are_never_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("json", "queue", "sympy", "decimal"):
        (tmp_path / f"{name}.py").write_text("open('executed', 'w')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))  # as `python -m gridzero` has it
    where = Child("os:getcwd", "decimal")
    assert where() == str(tmp_path)
    where.close()
    assert not Path("executed").exists()


def test_it_ends_with_its_parent() -> None:
    code = (
        "from gridzero.envs.tasks.child import call; import os; "
        "print(call('os:getpid', 'json'), flush=True); os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for _ in range(100):
        try:
            os.kill(int(done.stdout), 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("the process outlives its parent")
