"""A folder that an audit wrote, read again: its result, what it was asked of, and its answers picture by picture."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whatwhere.audits.result import AuditResult
from whatwhere.errors import InputError
from whatwhere.files import read_json
from whatwhere.lab.cells import STUDY
from whatwhere.lab.packed import unpack_scores
from whatwhere.lab.result import FILE
from whatwhere.need.studies.patches_worker import WHOLE, tally_of_cell
from whatwhere.need.studies.result import GAP_FC
from whatwhere.need.studies.tally import Tallies, joined, read, tally_of
from whatwhere.scores.named import NAMES, score_named
from whatwhere.scores.score import Score

SAME = ("weights", "layers", "preprocessing")  # of study.json: what makes two networks one
PATCHES = "patches"


@dataclass(frozen=True)
class Audited:
    """An audit in a folder.

    Attributes:
        folder: of it.
        label: how the comparison calls the network.
        found: its result.
    """

    folder: Path
    label: str
    found: AuditResult

    @cached_property
    def asked(self) -> Mapping[str, Any]:
        """What was asked: network, weights, pictures, score, minutes."""
        return _study(self.folder)

    @property
    def names_score(self) -> bool:
        """Whether what was measured is a score of this package's, which can be had again of what is kept."""
        return self.found.measured.name in NAMES

    @cached_property
    def score(self) -> Score:
        """What was measured; of a score of the user's what the result says of it."""
        given = self.found.measured
        return score_named(given.name, int(self.found.data.get("classes", 0))) if self.names_score else given

    def is_same_network(self, other: Audited) -> bool:
        """Whether weights, layers and preprocessing are the same."""
        return all(self.asked.get(k) is not None and self.asked.get(k) == other.asked.get(k) for k in SAME)

    def pictures(self, part: str) -> Mapping[str, Any]:
        """Which pictures a part was asked of: rows, groups; empty where it was not recorded."""
        return dict(self.found.parts.get(part, {}).get("asked", {}))

    def fingerprint(self, part: str = "") -> str:
        """Of the pictures of a part, or of all test pictures."""
        return str(_study(self.folder / part).get("data", ""))

    @cached_property
    def need(self) -> Tallies:
        """What the intact network and every removal gave, picture by picture; {} where it is not kept."""
        cells = list(_cells(self.folder / "need"))
        chunks = sorted((c for c in cells if "rows" in c[0]), key=lambda c: int(c[0]["rows"][0]))
        found: Tallies = joined([read(result) for _, result in chunks]) if chunks else {}
        for config, result in cells:
            if "collapse" in config and "refused" not in result:
                place = (GAP_FC, config["collapse"]) if config["collapse"] else None
                found.setdefault(place, tally_of(result))
        return found if None in found else {}

    @cached_property
    def patches(self) -> Tallies:
        """Likewise of shuffled patches, each grid a place; the picture as it is is None."""
        if not self.names_score:
            return {}
        found = {int(c["grid"]): tally_of_cell(r, self.score) for c, r in _cells(self.folder / PATCHES)}
        places: Tallies = {None if g == WHOLE else (PATCHES, str(g)): t for g, t in found.items()}
        return places if None in places else {}

    @cached_property
    def held(self) -> Mapping[tuple[str, str], NDArray[np.float64]]:
        """SPC of every test picture, by target and site."""
        given = [r for c, r in _cells(self.folder / "hold") if c.get("kind") == "network"]
        rows = [r for result in given for r in result["rows"] if r["inputs"] == "pictures" and not r["shuffled"]]
        return {(r["target"], r["group"]): unpack_scores(r["spc"]) for r in rows}

    @property
    def fitted(self) -> int | None:
        """Pictures that position was read out of."""
        pictures = self.found.parts.get("hold", {}).get("settings", {}).get("pictures", {})
        found = pictures.get("fit", {}).get("pictures")
        return None if found is None else int(found)


def _cells(folder: Path) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    for file in sorted((folder / "cells").glob("*.json")):
        plain = read_json(file)
        yield plain["config"], plain["result"]


def _study(folder: Path) -> Mapping[str, Any]:
    file = folder / STUDY
    return dict(read_json(file)) if file.is_file() else {}


def audited(folders: Sequence[str | os.PathLike[str]]) -> list[Audited]:
    """Read audits.

    Args:
        folders: two or more, each of another audit.

    Raises:
        InputError: for fewer, for the same one twice, and for what is no finished audit.
    """
    paths = [Path(f) for f in folders]
    if len(paths) < 2:
        raise InputError(
            f"{len(paths)} folder{'s' * (len(paths) != 1)}: give two or more that whatwhere audit wrote, such as "
            "whatwhere compare A B."
        )
    seen: dict[Path, Path] = {}
    for path in paths:
        if path.resolve() in seen:
            raise InputError(f"{path} is given twice; give folders of two audits (each with an --out of its own).")
        seen[path.resolve()] = path
    found = [_read(path) for path in paths]
    return [Audited(p, label, f) for p, label, f in zip(paths, _labels(paths, found), found, strict=True)]


def _labels(paths: Sequence[Path], found: Sequence[AuditResult]) -> list[str]:
    """The networks' names, with the folders where two have the same one."""
    names = [f.network for f in found]
    folders = [p.resolve().name for p in paths]
    short = len(set(folders)) == len(folders)
    return [
        name if names.count(name) == 1 else f"{name} ({folder if short else path})"
        for name, folder, path in zip(names, folders, paths, strict=True)
    ]


def _read(folder: Path) -> AuditResult:
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise InputError(f"{folder} {what}; give a folder that whatwhere audit wrote (its --out).")
    if not (folder / FILE).is_file():
        raise InputError(_unfinished(folder))
    plain = read_json(folder / FILE)
    kind = plain.get("kind") if isinstance(plain, dict) else None
    if kind != AuditResult.kind:
        raise InputError(f"{folder} holds a result of kind {kind!r}, not an audit{_instead(folder)}.")
    return AuditResult.from_dict(plain)


def _unfinished(folder: Path) -> str:
    if _study(folder).get("study") == AuditResult.kind:
        return (
            f"{folder} holds an audit that is not finished; run its command again (whatwhere audit ... --out {folder}),"
            " it goes on where it stopped."
        )
    return f"{folder} holds no audit (no {FILE}){_instead(folder)}."


def _instead(folder: Path) -> str:
    """An audit nearby, or how to make one."""
    near = [folder.parent, *sorted(p for p in folder.iterdir() if p.is_dir())]
    there = next((p for p in near if _study(p).get("study") == AuditResult.kind), None)
    if there is not None:
        return f"; did you mean {there}?"
    return f"; whatwhere audit --model MODEL --data DATA --out {folder}-audit makes one"
