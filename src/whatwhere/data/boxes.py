"""Pictures with boxes around objects: what a detector learns from, and is measured on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from whatwhere.data.ahead import workers
from whatwhere.data.contents import contents_of
from whatwhere.data.pixels import BrokenPicture, Raw, to_pixels
from whatwhere.data.prepared import check_finite, check_scale
from whatwhere.data.sources import Rows, Source
from whatwhere.data.split import SAMPLED, bytes_at, check_count, sampled_rows, stored_size
from whatwhere.data.split_names import TEST, TRAIN, VALIDATION, first_of
from whatwhere.errors import InputError
from whatwhere.network import Preprocessing

AHEAD = 32  # pictures that threads decode ahead of the reader


@dataclass(frozen=True)
class Objects:
    """The objects of one picture.

    Attributes:
        boxes: (n, 4) float32, left, top, right and bottom edge in pixels: a box around the pixel in the corner is 0, 0,
            1, 1.
        labels: (n,) int64, the class of each.
        difficult: (n,) bool: neither to be found nor wrong if it is, as in Pascal VOC.
        crowd: (n,) bool: several objects in one box, likewise left out, as in COCO.
    """

    boxes: Tensor
    labels: Tensor
    difficult: Tensor
    crowd: Tensor

    @staticmethod
    def of(boxes: object, labels: object, difficult: object = None, crowd: object = None) -> Objects:
        """From numbers; no object is difficult or a crowd if not said."""
        classes = torch.as_tensor(labels, dtype=torch.int64).reshape(-1)
        flags = (
            torch.zeros(len(classes), dtype=torch.bool) if f is None else torch.as_tensor(f, dtype=torch.bool)
            for f in (difficult, crowd)
        )
        return Objects(torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4), classes, *flags)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.labels)

    @property
    def counted(self) -> Tensor:
        """(n,) bool: those that a detector should find."""
        return ~(self.difficult | self.crowd)

    def to(self, device: object) -> Objects:
        """The same on a device."""
        values = (self.boxes, self.labels, self.difficult, self.crowd)
        return Objects(*(v.to(device) for v in values))  # type: ignore[call-overload]

    def mirrored(self, width: int) -> Objects:
        """As in the picture of that width, mirrored left-right."""
        left, top, right, bottom = self.boxes.unbind(1)
        boxes = torch.stack([width - right, top, width - left, bottom], 1)
        return Objects(boxes, self.labels, self.difficult, self.crowd)


class ObjectsBatch(tuple[Objects, ...]):
    """The objects of each picture of a batch."""

    def to(self, device: object) -> ObjectsBatch:
        """The same on a device."""
        return ObjectsBatch(each.to(device) for each in self)


class BoxSplit:
    """Pictures and the objects in them.

    >>> picture, objects = split[0]
    >>> picture.shape, objects.boxes.shape     # (3, 375, 500), (2, 4)

    Attributes:
        name: "train", "test", ...
        objects: those of each picture.
        classes: the class names.
        groups: (N,) integers, equal for pictures that belong together; each picture is its own group.
        comes_with: what a study may compare with.
        unsteady: "": every run serves the same pictures in the same order.
    """

    comes_with: Literal["boxes"] = "boxes"
    unsteady = ""

    def __init__(self, name: str, pictures: Source, objects: Sequence[Objects], classes: Sequence[str]) -> None:
        """Join pictures and boxes.

        Args:
            name: of the split, in errors and records.
            pictures: N stored pictures.
            objects: of each picture.
            classes: a name for each class.

        Raises:
            InputError: for no pictures, unequal numbers of both, a label outside the classes, or a box without area.
        """
        self.name, self.pictures, self.objects, self.classes = name, pictures, tuple(objects), tuple(classes)
        self.groups = torch.arange(len(pictures))
        self._fingerprint: str | None = None
        if not len(self):
            raise InputError(f"split {name!r} is empty; give one with at least one picture, or leave it out.")
        if len(self.objects) != len(self):
            raise InputError(f"split {name!r} has {len(self)} pictures, and boxes of {len(objects)}; give as many.")
        for row, each in enumerate(self.objects):
            self._check(row, each)

    def _check(self, row: int, objects: Objects) -> None:
        labels, boxes = objects.labels, objects.boxes
        where = f"split {self.name!r}, {self.pictures.place(row)}"
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(self.classes):
            wrong = int(labels[(labels < 0) | (labels >= len(self.classes))][0])
            raise InputError(
                f"{where}: label {wrong} is outside 0..{len(self.classes) - 1} ({len(self.classes)} classes); correct "
                "or remove it."
            )
        flat = ~(boxes[:, 2:] > boxes[:, :2]).all(1) | ~boxes.isfinite().all(1)
        if bool(flat.any()):
            raise InputError(
                f"{where}: the box {boxes[flat][0].tolist()} has no area; give left, top, right and bottom edges, or "
                "remove it."
            )

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.pictures)

    def __repr__(self) -> str:
        """Name and counts."""
        return f"BoxSplit({self.name!r}, {len(self)} pictures, {self.boxes} boxes, {len(self.classes)} classes)"

    @property
    def boxes(self) -> int:
        """Number of boxes that a detector should find."""
        return sum(int(o.counted.sum()) for o in self.objects)

    def __getitem__(self, row: int) -> tuple[Tensor, Objects]:
        """A picture (3, H, W), uint8, and its objects.

        Raises:
            InputError: if it cannot be decoded, or a box reaches outside.
        """
        return self._row(row, self.pictures.read([row])[0])

    def rows(self, order: Sequence[int] | None = None) -> Iterator[tuple[Tensor, Objects]]:
        """Rows in an order (None is all rows once), decoded ahead by threads."""
        wanted = list(range(len(self)) if order is None else order)
        parts = [wanted[start : start + AHEAD] for start in range(0, len(wanted), AHEAD)]
        if not stored_size(self.pictures.read([0])[0]):  # decoded already, so that threads would only take time
            for part in parts:
                yield from map(self._row, part, self.pictures.read(part))
            return
        with ThreadPoolExecutor(workers()) as pool:
            for part in parts:
                yield from pool.map(self._row, part, self.pictures.read(part))  # sources are read by one thread

    def _row(self, row: int, stored: Raw) -> tuple[Tensor, Objects]:
        try:
            picture = check_scale(self.name, check_finite(to_pixels(stored)))
        except BrokenPicture as error:
            raise InputError(
                f"split {self.name!r}: the picture in {self.pictures.place(row)} cannot be used: {error}. Remove or "
                "replace it."
            ) from error
        objects, (height, width) = self.objects[row], picture.shape[-2:]
        edges = torch.tensor([width, height, width, height])
        outside = ((objects.boxes < 0) | (objects.boxes > edges)).any(1)
        if bool(outside.any()):
            raise InputError(
                f"split {self.name!r}, {self.pictures.place(row)}: the box {objects.boxes[outside][0].tolist()} goes "
                f"out of its picture of {width} x {height} (width x height); correct it, or see that the picture is "
                "stored upright."
            )
        return picture, objects

    def shape(self, geometry: Preprocessing | None = None) -> tuple[int, int, int]:
        """(C, H, W) of the first picture."""
        check_uncropped(geometry)
        channels, height, width = self[0][0].shape
        return channels, height, width

    def batches(
        self, size: int, *, geometry: Preprocessing | None = None, order: Tensor | None = None
    ) -> Iterator[tuple[Tensor, ObjectsBatch]]:
        """Whole pictures (n, 3, H, W), uint8, and the objects of each.

        Raises:
            InputError: for pictures of different sizes in one batch, a size below 1, or a geometry that resizes or
                crops, as boxes would not follow.
        """
        check_uncropped(geometry)
        if size < 1:
            raise InputError(f"size={size}: a batch holds at least one picture; give 1 or more.")
        wanted: list[int] = list(range(len(self))) if order is None else order.tolist()
        for start in range(0, len(wanted), size):
            pairs = [*self.rows(wanted[start : start + size])]
            shapes = {tuple(p.shape) for p, _ in pairs}
            if len(shapes) > 1:
                raise InputError(
                    f"split {self.name!r} has pictures of sizes {', '.join(map(str, sorted(shapes)))} (C, H, W), which "
                    "fit no batch; give batch_size=1."
                )
            yield torch.stack([p for p, _ in pairs]), ObjectsBatch(o for _, o in pairs)

    def take(self, n: int, *, seed: int = 0) -> BoxSplit:
        """Draw some pictures at random, kept in their order; the split itself if it has no more than n."""
        check_count(n)
        if n >= len(self):
            return self
        rows = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))[:n].sort().values
        objects = [self.objects[row] for row in rows.tolist()]
        return BoxSplit(self.name, Rows(self.pictures, rows), objects, self.classes)

    @property
    def fingerprint(self) -> str:
        """16 hex digits of the classes, all boxes, and the stored bytes of 64 evenly spaced pictures."""
        if self._fingerprint is None:
            digest = hashlib.sha256(f"{len(self)} {self.classes}".encode())
            for each in self.objects:
                flags = torch.stack([each.labels, each.difficult.long(), each.crowd.long()])
                digest.update(flags.numpy().astype("<i8").tobytes())
                digest.update(each.boxes.numpy().astype("<f4").tobytes())
            for row in sampled_rows(len(self), SAMPLED):
                digest.update(bytes_at(self.name, self.pictures, row))
            self._fingerprint = digest.hexdigest()[:16]
        return self._fingerprint

    @cached_property
    def contents(self) -> str:
        """As of a `Split`: of the pictures, since the fingerprint is of all boxes."""
        return contents_of(self.pictures)


def check_uncropped(geometry: Preprocessing | None) -> None:
    """Refuse a preprocessing that resizes and crops pictures, whose boxes would not follow.

    Raises:
        InputError: naming the size.
    """
    if geometry is not None and geometry.size is not None:
        raise InputError(
            f"preprocessing.size={geometry.size}: boxes are measured in the pictures as stored, and a detector resizes "
            "by itself; give a Preprocessing with size=None."
        )


@dataclass(frozen=True)
class Boxes:
    """Named splits of one set of pictures with boxes.

    Attributes:
        name: in reports.
        splits: by name: "train", "validation", "test".
        notes: what the reader must know of how they were read.
    """

    name: str
    splits: Mapping[str, BoxSplit]
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, the same for every split."""
        return next(iter(self.splits.values())).classes

    @property
    def train(self) -> BoxSplit:
        """The split to learn from."""
        return self._first("train", TRAIN)

    @property
    def test(self) -> BoxSplit:
        """The split to evaluate on: "test", else "validation", under any of their usual names."""
        return self._first("test or validation or val", (*TEST, *VALIDATION))

    def _first(self, wanted: str, names: Sequence[str]) -> BoxSplit:
        found = first_of(self.splits, names)
        if found is not None:
            return found
        raise InputError(f"data {self.name!r} has no split {wanted}; it has {', '.join(self.splits)}.")

    def describe(self) -> dict[str, object]:
        """Plain values for a record."""
        return {
            "name": self.name,
            "sizes": {name: len(split) for name, split in self.splits.items()},
            "classes": len(self.classes),
            "boxes": {name: split.boxes for name, split in self.splits.items()},
            "fingerprints": {name: split.fingerprint for name, split in self.splits.items()},
            **({"notes": list(self.notes)} if self.notes else {}),
        }
