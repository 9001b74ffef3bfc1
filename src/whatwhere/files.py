"""Atomic writes: an interrupted write leaves the previous file intact."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from whatwhere.errors import InputError


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let a function write a temporary file beside the target, sync it, and rename it onto the target.

    Raises:
        InputError: if the disk is full, something is in the way, or the folder cannot be written; the previous file
            stays intact.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        try:
            write(Path(name))
            _sync(name)
            os.chmod(name, 0o666 & ~_umask())
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:  # safetensors reports a full disk in its own way
        raise unwritable(path, error) from error


def unwritable(path: Path, error: Exception) -> InputError:
    """An error for a file that cannot be written, with what helps.

    Args:
        path: the file.
        error: what was raised.
    """
    why = getattr(error, "strerror", None) or error
    return InputError(
        f"cannot write {path}: {why}. {_advice(error, path)}; "
        "what was finished before is kept, and the same command goes on from there."
    )


def _advice(error: Exception, path: Path) -> str:
    """What helps: room on a full disk, another place where a file or the rights are in the way."""
    number = getattr(error, "errno", None)
    if number in (errno.EEXIST, errno.ENOTDIR):
        there = next((str(p) for p in path.parents if p.exists()), str(path.parent))
        return f"{there} is a file, and a folder is needed there: choose another folder"
    if number == errno.EISDIR:
        return f"{path} is a folder, and a file is written there: choose another folder"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "Choose a folder that you may write to"
    if number in (errno.ENAMETOOLONG, errno.EINVAL):
        return "Choose another folder, with a shorter or plainer name"
    return "Free some space or choose another folder"


def _sync(name: str) -> None:
    with open(name, "rb+") as f:
        os.fsync(f.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    write_atomically(path, lambda p: _write(p, content))


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, UTF-8."""
    write_bytes(path, text.encode())


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def write_json(path: Path, value: Any, *, compact: bool = False) -> None:
    """Write a JSON file atomically; NaN and infinity are refused, since they are not JSON.

    Args:
        path: the file.
        value: plain values.
        compact: on one line, without spaces, instead of indented.
    """
    layout: dict[str, Any] = {"separators": (",", ":")} if compact else {"indent": 1}
    write_text(path, json.dumps(value, allow_nan=False, ensure_ascii=False, **layout) + "\n")


AGAIN = "delete it and run the same command again"  # of a file that this package wrote


def read_json(path: Path, *, remedy: str = AGAIN) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        remedy: what to do if it is not JSON; a file that the user wrote is corrected, not deleted.

    Raises:
        InputError: if it is missing, unreadable, or not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))  # an editor may have put a mark first
    except FileNotFoundError:
        raise InputError(f"{path} does not exist.") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a JSON file ({error}); {remedy}.") from error
    except RecursionError:
        raise InputError(f"{path} is not a JSON file of plain values (nested too deep); {remedy}.") from None


def refuse_foreign(
    out: Path, files: Iterable[Path], *, ours: bool, overwrite: bool = False, argument: str = "out"
) -> None:
    """The rule of all commands that write: none replaces a file that it did not write, unless told to.

    Args:
        out: where to, as it was given, for the error.
        files: what will be written.
        ours: whether those that are there are known to come from the same command.
        overwrite: what the user said.
        argument: that `out` was given as.

    Raises:
        InputError: naming the files that are there.
    """
    there = [] if ours or overwrite else [os.path.relpath(f, out) for f in files if f.exists()]
    if there:
        names = "the file" if there == ["."] else ", ".join(there)
        be, it = ("is", "it") if len(there) == 1 else ("are", "them")
        raise InputError(
            f"{argument}={str(out)!r}: {names} {be} there already, and this command did not write {it}; choose another "
            f"place, or give overwrite=true to replace {it}."
        )
