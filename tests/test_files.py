import errno
import os
import stat
import tempfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from small_disk import small_files
from whatwhere.errors import InputError
from whatwhere.files import read_json, refuse_foreign, write_atomically, write_bytes, write_json, write_text


def left_over(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("text", ["", "plain\n", "ü — 形\r\n"])
def test_text_comes_back_byte_for_byte(tmp_path: Path, text: str) -> None:
    file = tmp_path / "new" / "folders" / "a.txt"
    write_text(file, text)
    assert file.read_bytes() == text.encode()
    assert left_over(file.parent) == []


def test_json_comes_back(tmp_path: Path) -> None:
    value = {"a": [1, 2.5, None, True], "ü": {"nested": "text"}}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert "ü" in (tmp_path / "a.json").read_text(encoding="utf-8")  # readable, not escaped


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_what_is_no_json_is_refused_and_the_old_file_stays(tmp_path: Path, value: object) -> None:
    write_json(tmp_path / "a.json", 1)
    with pytest.raises((ValueError, TypeError)):
        write_json(tmp_path / "a.json", {"x": value})
    assert read_json(tmp_path / "a.json") == 1


@pytest.mark.parametrize("broken", ["replace", "fsync"])
def test_a_failure_before_the_rename_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    write_text(tmp_path / "a", "old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, broken, full)
    with pytest.raises(InputError, match=r"cannot write .*a: No space left on device\. Free some space or choose"):
        write_text(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old"
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_interrupted_writer_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    write_text(tmp_path / "a", "old")

    def write(path: Path) -> None:
        path.write_text("half of the new")
        raise error

    with pytest.raises(error):
        write_atomically(tmp_path / "a", write)
    assert (tmp_path / "a").read_text() == "old"
    assert left_over(tmp_path) == []


def test_readers_never_see_half_a_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")

    def write(path: Path) -> None:
        path.write_text("half")
        assert (tmp_path / "a").read_text() == "old"
        assert path.parent == tmp_path  # a rename is atomic in one file system only
        path.write_text("whole")

    write_atomically(tmp_path / "a", write)
    assert (tmp_path / "a").read_text() == "whole"


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    tensors, file = {"x": torch.zeros(100_000)}, tmp_path / "w.safetensors"
    save_file({"x": torch.ones(2)}, file)
    with small_files(50_000):
        with pytest.raises(InputError, match="Free some space"):
            write_atomically(file, lambda p: save_file(tensors, p))
        with pytest.raises(InputError, match="Free some space"):
            write_bytes(file, bytes(100_000))
    assert load_file(file)["x"].tolist() == [1, 1]
    assert left_over(tmp_path) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "")
    with pytest.raises(InputError, match="choose another folder"):
        write_text(tmp_path / "file" / "inside", "")


def test_the_files_obey_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe", b"text"])
def test_damaged_json_names_the_file_and_the_fix(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.json is not a JSON file .*; delete it and run the same command again"):
        read_json(tmp_path / "a.json")


def test_missing_and_unreadable_json(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_json(tmp_path / "a.json")
    with pytest.raises(InputError, match=r"cannot read .*: Is a directory"):
        read_json(tmp_path)


def test_what_is_in_the_way_is_named(tmp_path: Path) -> None:
    """More room on the disk would not help."""
    (tmp_path / "out").write_text("mine")
    for file in (tmp_path / "out" / "a.json", tmp_path / "out" / "deeper" / "a.json"):
        with pytest.raises(InputError, match=r"out is a file, and a folder is needed there: choose another folder;"):
            write_text(file, "new")
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    with pytest.raises(InputError, match=r"folder is a folder, and a file is written there: choose another"):
        write_text(tmp_path / "folder", "new")
    with pytest.raises(InputError, match=r"Choose another folder, with a shorter or plainer name"):
        write_text(tmp_path / ("a" * 300) / "b", "new")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    with pytest.raises(InputError, match=r"Permission denied\. Choose a folder that you may write to;"):
        write_text(tmp_path / "a", "new")


def test_the_remedy_is_the_callers(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputError, match=r"not a JSON file .*; delete it and run the same command again\.$"):
        read_json(tmp_path / "a.json")
    with pytest.raises(InputError, match=r"not a JSON file .*; correct it\.$"):
        read_json(tmp_path / "a.json", remedy="correct it")
    (tmp_path / "a.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match="nested too deep"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text('\ufeff{"a": 1}')
    assert read_json(tmp_path / "a.json") == {"a": 1}


def test_no_command_replaces_a_file_that_it_did_not_write(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine.txt", tmp_path / "other.txt"
    mine.write_text("precious")
    refuse_foreign(tmp_path, [other], ours=False)  # nothing is there
    refuse_foreign(tmp_path, [mine], ours=True)
    refuse_foreign(tmp_path, [mine], ours=False, overwrite=True)
    other.write_text("too")
    with pytest.raises(
        InputError, match=r"out='.*': mine\.txt, other\.txt .*choose another.*overwrite=true to replace them"
    ):
        refuse_foreign(tmp_path, [mine, other], ours=False)
    with pytest.raises(InputError, match=r"out='.*mine\.txt': the file is there already.*overwrite=true to replace it"):
        refuse_foreign(mine, [mine], ours=False)
    with pytest.raises(InputError, match=r"folder='.*': mine\.txt is there already"):
        refuse_foreign(tmp_path, [mine], ours=False, argument="folder")
