"""The one list of wings. Commands, help and `load_result` follow: a new instrument is a package and a line here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from whatwhere.errors import InputError
from whatwhere.files import read_json
from whatwhere.lab.study import Study, loaded

if TYPE_CHECKING:
    from whatwhere.lab.result import Result

# Each package has a docstring (its first line is the help) and COMMANDS: names to "package.module:study or function".
WINGS = [
    "whatwhere.need",
    "whatwhere.hold",
    "whatwhere.use",
    "whatwhere.say",
]
# Commands that belong to no wing.
TOP = {
    "audit": "whatwhere.audits.study:Audit",
    "compare": "whatwhere.audits.compare:compared",
    "doctor": "whatwhere.audits.doctor:doctor",
    "completion": "whatwhere.completion:completion",
    **{name: f"whatwhere.commands:{name}" for name in ("sites", "train", "evaluate", "export", "report")},
}

# Results that no study writes.
OTHERS = ["whatwhere.audits.comparison:Comparison"]


def wings() -> dict[str, str]:
    """By the last part of a wing's name, its package."""
    return {package.rpartition(".")[2]: package for package in WINGS}


def summary(package: str) -> str:
    """The first line of a wing's docstring, without its full stop."""
    return (import_module(package).__doc__ or "").partition("\n")[0].rstrip(".")


def commands_of(package: str) -> Mapping[str, str]:
    """The commands of a wing: where each study or function is."""
    found: Mapping[str, str] = import_module(package).COMMANDS
    return found


def result_classes() -> dict[str, type[Result]]:
    """By kind, the classes of all studies' results."""
    named = [where for package in WINGS for where in commands_of(package).values()]
    every = [loaded(where) for where in (*TOP.values(), *named)]
    results = [loaded(c.result) for c in every if isinstance(c, type) and issubclass(c, Study)] + [*map(loaded, OTHERS)]
    return {r.kind: r for r in results}


def load_result(folder: str | os.PathLike[str]) -> Result:
    """The result in a folder, whatever study wrote it.

    >>> ww.load_result("out").plot()

    Args:
        folder: holds result.json.

    Raises:
        InputError: if it does not, or holds a result that no study of this version writes.
    """
    file = Path(folder) / "result.json"
    if not file.is_file():
        raise InputError(f"folder={os.fspath(folder)!r} holds no result.json{_hint(Path(folder))}.")
    plain, known = read_json(file), result_classes()
    kind = plain.get("kind") if isinstance(plain, dict) else None
    if kind not in known:
        raise InputError(f"{file} has kind {kind!r}; known are {', '.join(known)}.")
    return known[kind].from_dict(plain)


def _hint(folder: Path) -> str:
    deeper = [path.parent.name for path in sorted(folder.glob("*/result.json"))]
    hint = f"give one of {', '.join(deeper)} in it" if deeper else "give --out of a finished measurement"
    unfinished = "; the study there is not finished: run its command again" if (folder / "cells").is_dir() else ""
    return f"{unfinished}; {hint}"
