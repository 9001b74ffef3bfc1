"""Scenes: pictures with label maps, one value per pixel, decoded on demand."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

import torch
from PIL import Image
from torch import Tensor

from whatwhere.data.ahead import workers
from whatwhere.data.contents import contents_of
from whatwhere.data.listing import several
from whatwhere.data.memory import memory_budget
from whatwhere.data.pixels import BROKEN, BrokenPicture, Raw, to_pixels
from whatwhere.data.prepared import check_finite, check_scale
from whatwhere.data.sources import Rows, Source
from whatwhere.data.split import SAMPLED, bytes_at, check_count, sampled_rows
from whatwhere.data.split_names import TEST, TRAIN, VALIDATION, first_of
from whatwhere.data.stored_maps import turned_apart, whole_numbers
from whatwhere.errors import InputError
from whatwhere.label_maps import CLASS, IGNORE
from whatwhere.network import Preprocessing

AHEAD = 32  # rows that threads decode ahead of the reader

Labels = dict[str, Tensor]
Stored = tuple[Raw, dict[str, Raw]]


class SceneSplit:
    """Pictures and their label maps.

    >>> picture, labels = split[0]
    >>> picture.shape, labels["class"].shape     # (3, 360, 480), (360, 480)

    Attributes:
        name: "train", "test", ...
        classes: the names of the values of the map `class`.
        groups: (N,) integers, equal for rows that belong together, such as frames of one video segment; by
            default each row is its own group.
    """

    def __init__(
        self,
        name: str,
        pictures: Source,
        maps: Mapping[str, Source],
        classes: Sequence[str],
        groups: Tensor | None = None,
        values: Tensor | None = None,
    ) -> None:
        """Join pictures and label maps.

        Args:
            name: of the split, in errors and records.
            pictures: N stored pictures.
            maps: label maps by name, N each, `class` among them.
            classes: a name for each value of the map `class`.
            groups: (N,) integers.
            values: (256,) the class of each stored value of the map `class`, `IGNORE` (255) for no class; None: stored
                values are classes, and 255 is unlabelled.

        Raises:
            InputError: for no pictures, no map `class`, more than 255 classes, or unequal numbers of maps and pictures.
        """
        self.name, self.pictures, self.maps, self.classes = name, pictures, dict(maps), tuple(classes)
        self.groups = torch.arange(len(pictures)) if groups is None else groups
        self.values = values
        self._kept: dict[int, tuple[Tensor, Labels]] = {}
        self._budget: float | None = None
        self._fingerprint: str | None = None
        self._check()

    def _check(self) -> None:
        if len(self) == 0:
            raise InputError(f"split {self.name!r} is empty; give one with at least one picture, or leave it out.")
        if CLASS not in self.maps:
            raise InputError(f"split {self.name!r} has no map {CLASS!r}; it has {', '.join(self.maps) or 'none'}.")
        if len(self.classes) > IGNORE:
            raise InputError(f"split {self.name!r} has {len(self.classes)} classes; there can be {IGNORE} at most.")
        counts = {**{f"maps {k!r}": len(v) for k, v in self.maps.items()}, "groups": len(self.groups)}
        for what, count in counts.items():
            if count != len(self):
                raise InputError(f"split {self.name!r} has {len(self)} pictures but {count} {what}; give as many.")

    def __getstate__(self) -> dict[str, object]:
        """Without the pictures that are decoded in this process."""
        return {**self.__dict__, "_kept": {}}

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.pictures)

    @property
    def comes_with(self) -> str:
        """What the pictures come with, as a score may need it."""
        return "label maps"

    @property
    def unsteady(self) -> str:
        """Why another run may serve other pictures, or in another order: none does."""
        return ""

    def shape(self, geometry: Preprocessing | None = None) -> tuple[int, int, int]:
        """(3, H, W) of the first picture; scenes are never resized, whatever the geometry."""
        channels, height, width = self[0][0].shape
        return channels, height, width

    def __repr__(self) -> str:
        """Name and counts."""
        return f"SceneSplit({self.name!r}, {len(self)} pictures, {len(self.classes)} classes)"

    def __getitem__(self, row: int) -> tuple[Tensor, Labels]:
        """A picture (3, H, W), uint8, and its label maps (H, W), uint8 or int32; 255 is unlabelled.

        Raises:
            InputError: if it cannot be decoded, sizes differ, or a label is outside the classes.
        """
        return self._row(row, self._stored(row))

    def rows(self, order: Sequence[int] | None = None) -> Iterator[tuple[Tensor, Labels]]:
        """Rows in an order (None is all rows once), decoded ahead by threads."""
        wanted = list(range(len(self)) if order is None else order)
        with ThreadPoolExecutor(workers()) as pool:
            for start in range(0, len(wanted), AHEAD):
                part = wanted[start : start + AHEAD]
                stored = [self._stored(row) for row in part]  # sources are read by one thread
                yield from pool.map(self._row, part, stored)

    def batches(
        self, size: int, *, geometry: Preprocessing | None = None, order: Tensor | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Whole pictures (n, 3, H, W) and their class maps (n, H, W), int64.

        Raises:
            InputError: for pictures of different sizes in one batch, or a size below 1.
        """
        if size < 1:
            raise InputError(f"size={size}: a batch holds at least one picture.")
        wanted: list[int] = list(range(len(self))) if order is None else order.tolist()
        for start in range(0, len(wanted), size):
            part = wanted[start : start + size]
            pairs = [(picture, labels[CLASS]) for picture, labels in self.rows(part)]
            shapes = {tuple(p.shape[-2:]) for p, _ in pairs}
            if len(shapes) > 1:
                raise InputError(f"split {self.name!r} has pictures of sizes {sorted(shapes)}; give batch_size=1.")
            yield torch.stack([p for p, _ in pairs]), torch.stack([m for _, m in pairs]).long()

    def take(self, n: int, *, seed: int = 0) -> SceneSplit:
        """Draw some rows at random, kept in their order; the split itself if it has no more than n."""
        check_count(n)
        if n >= len(self):
            return self
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return self.only(order[:n].sort().values)

    def only(self, rows: Tensor) -> SceneSplit:
        """Some rows, by number."""
        maps = {name: Rows(source, rows) for name, source in self.maps.items()}
        return SceneSplit(self.name, Rows(self.pictures, rows), maps, self.classes, self.groups[rows], self.values)

    @property
    def fingerprint(self) -> str:
        """16 hex digits of the classes, groups, meaning of values, and stored bytes of 64 evenly spaced rows."""
        if self._fingerprint is None:
            rows = sampled_rows(len(self), SAMPLED)
            values = None if self.values is None else self.values.tolist()
            digest = hashlib.sha256(f"{len(self)} {self.classes} {self.groups.tolist()} {values}".encode())
            for source in (self.pictures, *(self.maps[k] for k in sorted(self.maps))):
                for row in rows:
                    digest.update(bytes_at(self.name, source, row))
            self._fingerprint = digest.hexdigest()[:16]
        return self._fingerprint

    @cached_property
    def contents(self) -> str:
        """As of a `Split`, of the pictures and of their label maps."""
        return contents_of(self.pictures, *(self.maps[k] for k in sorted(self.maps)))

    @cached_property
    def counts(self) -> Tensor:
        """(256,) pixels of each class in all label maps, at `IGNORE` those without one; decodes no pictures."""
        counts = torch.zeros(256, dtype=torch.int64)
        for labels in self.class_maps(range(len(self))):
            counts += torch.bincount(labels.flatten().long(), minlength=256)
        return counts

    @property
    def absent(self) -> tuple[str, ...]:
        """The classes that never occur in the label maps."""
        return tuple(name for name, n in zip(self.classes, self.counts.tolist(), strict=False) if not n)

    def class_maps(self, rows: Sequence[int]) -> Iterator[Tensor]:
        """The class maps (H, W) of some rows, without the pictures, decoded ahead by threads."""
        with ThreadPoolExecutor(workers()) as pool:
            for start in range(0, len(rows), AHEAD):
                part = rows[start : start + AHEAD]
                stored = [None if r in self._kept else self.maps[CLASS].read([r])[0] for r in part]
                yield from pool.map(self._class_map, part, stored)

    def _class_map(self, row: int, stored: Raw | None) -> Tensor:
        return self._kept[row][1][CLASS] if stored is None else self._map(CLASS, row, stored)

    def _keeps(self, decoded: tuple[Tensor, Labels]) -> bool:
        """Whether all decoded rows would fit into memory if each had the size of this one."""
        if self._budget is None:
            self._budget = memory_budget()
        each = sum(t.numel() * t.element_size() for t in (decoded[0], *decoded[1].values()))
        return each * len(self) < self._budget

    def _stored(self, row: int) -> Stored | None:
        """The undecoded picture and maps of a row; None if the row is kept decoded."""
        if row in self._kept:
            return None
        return self.pictures.read([row])[0], {name: source.read([row])[0] for name, source in self.maps.items()}

    def _row(self, row: int, stored: Stored | None) -> tuple[Tensor, Labels]:
        if stored is None:
            return self._kept[row]
        decoded = self._decoded(row, stored)
        if self._keeps(decoded):
            self._kept[row] = decoded
        return decoded

    def _decoded(self, row: int, stored: Stored) -> tuple[Tensor, Labels]:
        picture = self._picture(row, stored[0])
        labels = {name: self._map(name, row, raw) for name, raw in stored[1].items()}
        for name, values in labels.items():
            apart = turned_apart(stored[0], stored[1][name], picture.shape[-2:], values.shape)
            if apart:
                raise InputError(f"split {self.name!r}, {self.maps[name].place(row)}: {apart}.")
            if values.shape != picture.shape[-2:]:
                raise InputError(
                    f"split {self.name!r}, {self.maps[name].place(row)}: the map {name!r} is {tuple(values.shape)} "
                    f"(H, W), its picture {tuple(picture.shape[-2:])}; give maps of the pictures' size."
                )
        return picture, labels

    def _picture(self, row: int, stored: Raw) -> Tensor:
        try:
            return check_scale(self.name, check_finite(to_pixels(stored)))
        except BrokenPicture as error:
            raise InputError(
                f"split {self.name!r}: the picture in {self.pictures.place(row)} cannot be used: {error}. Remove or "
                "replace it."
            ) from error

    def _map(self, name: str, row: int, stored: Raw) -> Tensor:
        try:
            numbers = whole_numbers(stored)
        except (*BROKEN, Image.DecompressionBombError) as error:
            place = self.maps[name].place(row)
            raise InputError(
                f"split {self.name!r}: the label map {name!r} in {place} cannot be read ({error}); replace it."
            ) from error
        return self._classes(row, numbers) if name == CLASS else numbers

    def _classes(self, row: int, numbers: Tensor) -> Tensor:
        """The classes of the stored numbers of a map `class`, (H, W) uint8."""
        meant = torch.arange(256, dtype=torch.uint8) if self.values is None else self.values
        stored = numbers.long()
        bytes_ = stored.clamp(0, 255)
        values = meant[bytes_]
        wrong = (stored != bytes_) | ((values >= len(self.classes)) & (values != IGNORE))
        if bool(wrong.any()):
            place = self.maps[CLASS].place(row)
            raise InputError(
                f"split {self.name!r}, {place}: label {int(stored[wrong][0])} is outside "
                f"0..{len(self.classes) - 1} ({len(self.classes)} classes), and {IGNORE} is unlabelled; correct the "
                "map, or name more classes."
            )
        return values


@dataclass(frozen=True)
class Scenes:
    """Named splits of one set of scenes.

    Attributes:
        name: in reports.
        splits: by name: "train", "validation", "test".
        colours: (classes, 3) for pictures of label maps; empty: chosen by the report.
        values: names of the values of other label maps, by map.
        notes: what the reader must know of how they were read, such as files that were passed over.
    """

    name: str
    splits: Mapping[str, SceneSplit]
    colours: tuple[tuple[int, int, int], ...] = ()
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, the same for every split."""
        return next(iter(self.splits.values())).classes

    @property
    def train(self) -> SceneSplit:
        """The split to learn from."""
        return self._first("train", TRAIN)

    @property
    def validation(self) -> SceneSplit:
        """The split to set thresholds on: "validation" under any of its usual names."""
        return self._first("validation or val", VALIDATION)

    @property
    def test(self) -> SceneSplit:
        """The split to evaluate on: "test", else "validation", under any of their usual names."""
        return self._first("test or validation or val", (*TEST, *VALIDATION))

    def _first(self, wanted: str, names: Sequence[str]) -> SceneSplit:
        found = first_of(self.splits, names)
        if found is not None:
            return found
        raise InputError(f"scenes {self.name!r} have no split {wanted}; they have {', '.join(self.splits)}.")

    def absent_notes(self) -> list[str]:
        """A note on classes that never occur in the label maps of the split to learn from; reads all of them."""
        train = first_of(self.splits, TRAIN)
        return [absent_note(train)] if train is not None and train.absent else []

    def describe(self) -> dict[str, object]:
        """Plain values for a record."""
        return {
            "name": self.name,
            "sizes": {name: len(split) for name, split in self.splits.items()},
            "classes": len(self.classes),
            "groups": {name: len(split.groups.unique()) for name, split in self.splits.items()},
            "fingerprints": {name: split.fingerprint for name, split in self.splits.items()},
            **({"notes": list(self.notes)} if self.notes else {}),
        }


def check_labelled(split: SceneSplit, what: str) -> None:
    """Refuse pictures of which no pixel is labelled; decodes label maps up to the first that has one.

    Args:
        split: the pictures.
        what: they are, for the error.

    Raises:
        InputError: if there is none.
    """
    if not any(bool((labels != IGNORE).any()) for labels in split.class_maps(range(len(split)))):
        n = f"{len(split)} picture{'s' * (len(split) != 1)}"
        raise InputError(
            f"{what}: no pixel of the label maps of its {n} is labelled; correct the maps, or give score='agreement'."
        )


def absent_note(split: SceneSplit) -> str:
    """That some classes never occur in a split's label maps, and how many pixels are unlabelled."""
    names, unlabelled = several(map(repr, split.absent)), float(split.counts[IGNORE] / split.counts.sum())
    lost = f"; {100 * unlabelled:.1f} % of the pixels are unlabelled ({IGNORE})" if unlabelled else ""
    return f"split {split.name!r}: {names} never occurs in its {len(split)} label maps{lost}."


def video_segments(frames: Sequence[str], length: int = 10) -> Tensor:
    """Group the frames of videos into segments of neighbouring frames.

    Neighbouring frames show nearly the same scene and are not independent, so intervals are computed over segments.

    Args:
        frames: names that end in a number (and perhaps `.png`), such as `0001TP_006690`; the part before the
            number is the video.
        length: frames in a segment; the last one of a video may be shorter.

    Returns:
        (N,) group of each frame.
    """
    parsed = [re.fullmatch(r"(.*?)(\d+)(\.[A-Za-z]+)?", f) for f in frames]
    keys = [(m[1], int(m[2])) if m else (f, 0) for m, f in zip(parsed, frames, strict=True)]
    groups = torch.empty(len(frames), dtype=torch.int64)
    seen: dict[str, int] = {}
    numbers: dict[tuple[str, int], int] = {}
    for row in sorted(range(len(frames)), key=lambda i: keys[i]):
        video = keys[row][0]
        place = seen[video] = seen.get(video, -1) + 1
        groups[row] = numbers.setdefault((video, place // length), len(numbers))
    return groups
