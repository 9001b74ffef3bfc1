"""Cells: the unit of running, resuming and distributing. A cell's key is a hash of all that decides its result."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from whatwhere.errors import InputError
from whatwhere.files import read_json, refuse_foreign, write_json
from whatwhere.lab.claims import Claim, alone

SCHEMA_VERSION = 1
STUDY = "study.json"
KIND = "study"  # its entry that says which protocol it is
CLAIM = ".claim"  # ends the name of the file that says who runs a cell
PRESENT = "run-"  # begins the name of the one that says that a command is at work in the folder
WRITTEN = ("result.json", "table.csv", "index.html")  # at the end of every study


@dataclass(frozen=True)
class Cell:
    """One thing to run.

    Attributes:
        config: plain values that decide the result; not paths or devices.
        label: how progress calls it.
        cost: how long it takes beside the others, in any unit; for progress alone.
    """

    config: Mapping[str, Any]
    label: str = ""
    cost: float = field(default=1.0, compare=False)

    @cached_property
    def key(self) -> str:
        """16 hexadecimal digits of the configuration's hash; the order of its entries does not matter."""
        text = json.dumps(self.config, sort_keys=True, allow_nan=False, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Worker:
    """Runs cells: a picklable function from a configuration to a plain result."""

    def __call__(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Run one cell; the same configuration gives the same numbers."""
        raise NotImplementedError

    def stored(self, cell: Cell) -> None:
        """Called once the cell's result is safe, to remove its checkpoint, say."""


@dataclass(frozen=True)
class CellFiles:
    """The files of the cells of a folder: results, one small JSON file each, written atomically, and claims.

    Attributes:
        folder: of the study.
        mark: of the study, which every cell's file bears; empty takes any.
    """

    folder: Path
    mark: str = ""

    def file(self, cell: Cell) -> Path:
        """Where a cell's result is, or will be."""
        return self.folder / "cells" / f"{cell.key}.json"

    def claim(self, cell: Cell) -> Claim:
        """The right to run a cell, beside its result.

        In the same folder, since creating a file there makes an NFS client look anew at what else is in it.
        """
        return Claim(self.folder / "cells" / f"{cell.key}{CLAIM}")

    def has(self, cell: Cell) -> bool:
        """Whether a cell is finished."""
        return self.file(cell).exists()

    def load(self, cell: Cell) -> dict[str, Any]:
        """A finished cell's result.

        Raises:
            InputError: if the file is damaged, or belongs to another configuration or study.
        """
        return self._checked(self.file(cell))[1]

    def check(self) -> None:
        """Refuse to run a cell in a folder that another study has taken, while a job was queued, say.

        Raises:
            InputError: if it has.
        """
        file = self.folder / STUDY
        if self.mark and file.is_file() and mark_of(read_json(file)) != self.mark:
            raise InputError(f"{self.folder} holds another study by now; give each study a folder of its own.")

    def _checked(self, file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        content = read_json(file)
        whole = isinstance(content, dict) and {"config", "result"} <= content.keys()
        if not whole or content.get("schema_version") != SCHEMA_VERSION or Cell(content["config"]).key != file.stem:
            raise InputError(f"{file} does not hold the cell its name says; delete it and run the command again.")
        if self.mark and content.get("study", self.mark) != self.mark:  # earlier versions wrote none
            raise InputError(
                f"{file} is a cell of another study than {STUDY} beside it describes: two ran in this folder at the "
                "same time, or it was copied. Give each study a folder of its own; delete this one."
            )
        return dict(content["config"]), dict(content["result"])

    def save(self, cell: Cell, result: Mapping[str, Any], **about: Any) -> None:
        """Write a finished cell; `about` is recorded beside the result (seconds, hardware)."""
        head = {"schema_version": SCHEMA_VERSION, "label": cell.label, "config": cell.config}
        head |= {"study": self.mark} if self.mark else {}
        write_json(self.file(cell), {**head, "result": result, **about}, compact=True)


class Store(CellFiles):
    """A folder of finished cells, and what they share.

    Args:
        folder: made if it is not there.
        study: what all cells of this folder share; a folder of another study is refused.
        kind: of the study's result; where it alone was kept, the folder is the study's.
        overwrite: replace files of the names of a study's that no study wrote.

    Raises:
        InputError: if the folder holds another study, or such files.
    """

    def __init__(self, folder: Path, study: Mapping[str, Any], *, kind: str = "", overwrite: bool = False) -> None:
        plain = json.loads(json.dumps(study))  # as it will be read back
        super().__init__(Path(folder), mark_of(plain))
        self.study = plain
        self._read: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
        file = self.folder / STUDY
        finished = any((self.folder / "cells").glob("*.json"))
        if finished and not file.exists():
            raise InputError(f"{self.folder} holds cells of an unknown study (no study.json); choose another folder.")
        files = [self.folder / name for name in (STUDY, *WRITTEN)]
        kept = not file.exists() and is_result(self.folder / "result.json", kind)
        ours = finished or kept or _is_study(file, self.study)
        refuse_foreign(self.folder, files, ours=ours, overwrite=overwrite)
        # A folder with neither cells nor a result, left by a mistake say, may be reused; not one whose first cells run.
        if finished or (ours and file.exists() and ((self.folder / "result.json").exists() or self._in_use())):
            self._refuse_another(read_json(file), file)
        else:
            write_json(file, self.study)

    def _in_use(self) -> bool:
        """Whether a process runs a cell, or a command is about to."""
        claims = [*self.folder.glob(f"{PRESENT}*{CLAIM}"), *(self.folder / "cells").glob(f"*{CLAIM}")]
        return not all(Claim(file).free() for file in claims)

    def _refuse_another(self, seen: Any, file: Path) -> None:
        if not isinstance(seen, dict):
            raise InputError(f"{file} does not describe a study; choose another folder or delete it.")
        differing = [k for k in {**seen, **self.study} if seen.get(k) != self.study.get(k)]
        differing = [KIND] if KIND in differing else differing  # of another kind everything else differs, too
        if differing:
            lines = [f"  {k}: {seen.get(k)!r} there, {self.study.get(k)!r} now" for k in sorted(differing)]
            raise InputError(
                f"out={str(self.folder)!r} holds another study; choose another folder, or the same settings:\n"
                + "\n".join(lines)
            )

    def contents(self) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
        """Configuration and result of every finished cell, by its key, whoever asked for it.

        Raises:
            InputError: if a file is damaged, or does not hold the cell that its name says.
        """
        for file in sorted((self.folder / "cells").glob("*.json")):
            if file.stem not in self._read:
                self._read[file.stem] = self._checked(file)
        return dict(self._read)

    def seconds(self) -> float:
        """What the finished cells took, as far as it was recorded."""
        cells = (read_json(f) for f in (self.folder / "cells").glob("*.json"))
        return sum(float(c.get("seconds", 0)) for c in cells if isinstance(c, dict))


@contextmanager
def opened(folder: Path, study: Mapping[str, Any], *, kind: str = "", overwrite: bool = False) -> Iterator[Store]:
    """A store whose folder no other study takes in the block, also before its first cell is finished.

    Args:
        folder: as for `Store`.
        study: likewise.
        kind: likewise.
        overwrite: likewise.

    Raises:
        InputError: as `Store`, or where no file can be written.
    """
    present = Claim(folder / f"{PRESENT}{uuid.uuid4().hex[:12]}{CLAIM}")
    with alone(folder / f"opening{CLAIM}", f"out={str(folder)!r} is opened"):
        store = Store(folder, study, kind=kind, overwrite=overwrite)
        for left in folder.glob(f"{PRESENT}*{CLAIM}"):
            Claim(left).free()  # removes those of commands that were killed
        present.take()
    try:
        yield store
    finally:
        present.release()


def mark_of(study: Any) -> str:
    """16 hexadecimal digits of what cells share; an entry that is None counts as missing."""
    entries = {k: v for k, v in study.items() if v is not None} if isinstance(study, dict) else study
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()[:16]


def is_result(file: Path, kind: str) -> bool:
    """Whether a file is a result of a kind."""
    seen = read_json(file) if file.is_file() else None
    return isinstance(seen, dict) and seen.get("kind") == kind and "schema_version" in seen


def _is_study(file: Path, study: Mapping[str, Any]) -> bool:
    """Whether a file looks like a study.json of ours; one that is damaged does, and is refused as such."""
    if not file.is_file():
        return False
    try:
        seen = read_json(file)
    except InputError:
        return True
    return isinstance(seen, dict) and (not seen or bool(seen.keys() & study.keys()))
