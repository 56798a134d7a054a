"""Folders to write into are checked beforehand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gridzero.envs.folders import check_folder


def test_a_folder_may_be_there_or_be_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for new in (True, False):
        check_folder(Path(), new=new)
        check_folder(tmp_path, new=new)
    check_folder(Path("a/b/c"), new=True)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="there is no folder a/b to write into"):
        check_folder(Path("a/b"))


@pytest.mark.parametrize("folder", ["file", "file/a", "file/a/b", "broken"])
@pytest.mark.parametrize("new", [True, False])
def test_no_folder_is_where_a_file_is(folder: str, new: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("broken").symlink_to("nowhere")
    with pytest.raises(ValueError, match=r"(file|broken) is a file where a folder is needed; choose another name"):
        check_folder(Path(folder), new=new)


def test_a_folder_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root writes everywhere, so the system's answer is played.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    for folder in (tmp_path, tmp_path / "a" / "b"):
        with pytest.raises(ValueError, match=f"the folder {tmp_path} cannot be written to; choose another one"):
            check_folder(folder, new=True)
