"""Which concepts of Broden+ a study takes: counted on its training pictures, and kept beside the study's features."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from whatwhere.errors import InputError
from whatwhere.files import read_json, write_json
from whatwhere.lab.progress import Meter
from whatwhere.say.concept_counts import concept_counts, matching
from whatwhere.say.concepts import Selected
from whatwhere.say.studies.broden import META, RECORDS, Broden, load_broden
from whatwhere.say.studies.concept_spec import BRODEN, OF_SCENES, checked_limits, listed
from whatwhere.say.studies.kinds import HELD_OUT

GRID = (128, 128)  # points of a picture at which concepts are counted
SPREAD = 16  # pictures of a split that its fingerprint reads


@dataclass(frozen=True)
class BrodenConcepts:
    """The concepts of Broden+ that a study takes.

    Attributes:
        spec: `broden`, the fingerprint of the pictures and labels; `only` and `select`, which concepts.
        kept: folder of what is computed once.
        folder: of Broden+; None where what is needed was computed before.
    """

    spec: Mapping[str, Any]
    kept: Path
    folder: str | None

    @cached_property
    def splits(self) -> Mapping[str, Broden]:
        """The splits.

        Raises:
            InputError: if the folder was not given.
        """
        if self.folder is None:
            raise InputError(
                "concepts: broden: the study's concept heads are fitted on pictures of Broden+; give their folder, as "
                "broden/FOLDER."
            )
        return splits_of(self.folder)

    @cached_property
    def counts(self) -> list[dict[str, Any]]:
        """How often every concept occurs in the pictures that heads are fitted on."""
        file = self.kept / f"broden-counts-{self.spec[BRODEN]}.json"
        if not file.exists():
            write_json(file, _counted(self.splits["train"]))
        found: list[dict[str, Any]] = read_json(file)
        return found

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The concepts.

        Raises:
            InputError: for patterns that fit nothing, limits that cannot be, or if no concept is left.
        """
        return chosen(self.spec, self.counts)

    @property
    def chosen_counts(self) -> list[dict[str, Any]]:
        """Those of the concepts taken, for the result."""
        return [{k: c[k] for k in ("concept", "share", "pictures")} for c in self.counts if c["concept"] in self.names]

    @property
    def left_out(self) -> list[str]:
        """Concepts asked for that cannot be fitted."""
        return [c["concept"] for c in _wanted(self.spec, self.counts) if not _fits(c)]

    def source(self, split: str) -> Selected:
        """The concepts of a split's pictures."""
        return Selected(self.splits[split].concepts(), self.names)

    def rows(self, part: str) -> tuple[str, list[int]]:
        """The split and its rows that heads are fitted ("fit"), calibrated or validated on."""
        if part == "validation":
            return part, list(range(len(self.splits.get(part, ()))))
        fit, held = parts_of(self.splits["train"])
        return "train", fit if part == "fit" else held


def settled_broden(spec: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """What a study records of concepts of Broden+, and the folder.

    Args:
        spec: with the entry `broden`: the folder, or the fingerprint that a study recorded.

    Raises:
        InputError: for entries that need labels of the scenes, or a folder that is not Broden+'s.
    """
    others = [entry for entry in OF_SCENES if spec.get(entry)]
    if others:
        raise InputError(
            f"concepts: broden stands alone: its concepts are labelled on other pictures than {', '.join(others)}. Run "
            "a study of each."
        )
    given = os.fspath(spec[BRODEN])
    if re.fullmatch(r"[0-9a-f]{16}", given) and not Path(given).is_dir():
        return {**spec, BRODEN: given}, None
    if not Path(given).is_dir():
        raise InputError(f"concepts={f'{BRODEN}/{given}'!r}: there is no such folder; give that of Broden+.")
    return {**spec, BRODEN: fingerprint_of(splits_of(given))}, given


def splits_of(folder: str) -> dict[str, Broden]:
    """The splits of a folder: train, and validation where one of its lists is there."""
    meta = Path(folder) / META
    held = any((meta / name).is_file() for name in RECORDS["validation"])
    return {split: load_broden(folder, split) for split in ("train", *(["validation"] if held else []))}


def fingerprint_of(splits: Mapping[str, Broden]) -> str:
    """16 hexadecimal digits of the records, the names, and the pixels and labels of some pictures of each split."""
    digest = hashlib.sha256()
    for split, broden in splits.items():
        about = [split, broden.records, dict(broden.names), broden.lists.int().tolist()]
        digest.update(json.dumps(about, sort_keys=True).encode())
        rows = torch.linspace(0, len(broden) - 1, min(SPREAD, len(broden)), dtype=torch.float64).round().long()
        for row in rows.tolist():
            picture, labels = broden[row]
            for values in (picture, *(labels[name] for name in sorted(labels))):
                digest.update(values.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def parts_of(broden: Broden) -> tuple[list[int], list[int]]:
    """Rows to fit on, and every fifth of each data set, held out; small data sets hold out none."""
    seen: dict[str, int] = {}
    held = []
    for row, record in enumerate(broden.records):
        place = seen[record.dataset] = seen.get(record.dataset, -1) + 1
        if place % HELD_OUT == HELD_OUT - 1:
            held.append(row)
    return [row for row in range(len(broden)) if row not in set(held)], held


def _counted(broden: Broden) -> list[dict[str, Any]]:
    rows, _ = parts_of(broden)
    with Meter("counting concepts of Broden+", len(rows)) as meter:
        counts = concept_counts(broden.concepts(), _gridded(broden, rows, meter), ())
    each = zip(counts.names, counts.present.tolist(), counts.labelled.tolist(), counts.pictures.tolist(), strict=True)
    return [
        {"concept": name, "present": p, "labelled": n, "share": round(p / n, 6) if n else None, "pictures": pictures}
        for name, p, n, pictures in each
    ]


def _gridded(broden: Broden, rows: Sequence[int], meter: Meter) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    for done, row in enumerate(rows, 1):
        yield blank(GRID), on_grid(broden.labels(row), GRID)
        meter.update(done)


def blank(size: Sequence[int]) -> Tensor:
    """A picture of a size, which takes no memory: for sources that read the label maps alone."""
    return torch.zeros(1, dtype=torch.uint8).expand(3, *size)


def on_grid(labels: Mapping[str, Tensor], size: Sequence[int]) -> dict[str, Tensor]:
    """Label maps read at the middles of a grid of another size, (h, w): memory does not grow with the picture."""
    return {name: _at_middles(values, size) for name, values in labels.items()}


def _at_middles(values: Tensor, size: Sequence[int]) -> Tensor:
    rows, columns = ((2 * torch.arange(n) + 1) * full // (2 * n) for n, full in zip(size, values.shape, strict=True))
    return values[rows[:, None], columns]


def chosen(spec: Mapping[str, Any], counts: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The concepts that a study takes, in Broden+'s order.

    A concept that is never labelled present, or never absent, cannot be fitted, and is left out.

    Args:
        spec: `only`, patterns of names; `select`, least `share` and `pictures` and at `most` how many, the most
            frequent ones.
        counts: of all concepts.

    Raises:
        InputError: for limits that cannot be, patterns that fit nothing, or if no concept is left.
    """
    limits = checked_limits(spec.get("select") or {})
    if limits.get("bits"):
        raise InputError("concepts: select: bits: pictures of Broden+ have no classes of the task; give pictures.")
    wanted = _wanted(spec, counts)
    least, share = limits.get("pictures", 0), limits.get("share", 0.0)
    left = [c for c in wanted if _fits(c) and c["pictures"] >= least and c["share"] >= share]
    kept = sorted(left, key=lambda c: -c["pictures"])[: limits.get("most", len(left))]
    if not kept:
        raise InputError(
            f"concepts: {dict(spec)!r} leave none of {len(counts)} concepts of Broden+ that is labelled present in "
            "some places and absent in others; lower the limits, or take more of its data sets."
        )
    return tuple(c["concept"] for c in wanted if c in kept)


def _wanted(spec: Mapping[str, Any], counts: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    names = matching([c["concept"] for c in counts], listed(spec, "only") or ["*"])
    return [c for c in counts if c["concept"] in names]


def _fits(count: Mapping[str, Any]) -> bool:
    return 0 < count["present"] < count["labelled"]
