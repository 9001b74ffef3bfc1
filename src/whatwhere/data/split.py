"""One split of a data set: pictures and integer labels, decoded once and served in batches."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from operator import index
from pathlib import Path
from typing import SupportsIndex, TypeAlias

import torch
from PIL import Image
from torch import Tensor

from whatwhere.data.ahead import ahead
from whatwhere.data.contents import contents_of
from whatwhere.data.memory import memory_budget
from whatwhere.data.pixels import BrokenPicture, Piece, Raw, check_geometry, to_pixels
from whatwhere.data.prepared import check_finite, check_scale
from whatwhere.data.sources import Rows, Source
from whatwhere.errors import InputError
from whatwhere.network import Preprocessing

CHUNK = 64  # pictures one thread decodes at a time
TINY = 8192  # bytes of a picture, stored and decoded, up to which one thread is fastest
SAMPLED = 64  # pictures whose stored bytes enter the fingerprint

Key: TypeAlias = tuple[object, ...]


class Split:
    """Pictures and integer labels.

    >>> images, labels = next(split.batches(256))
    >>> images.shape, images.dtype, labels.shape     # (256, 3, 32, 32) torch.uint8 (256,)

    Attributes:
        name: "train", "test", ...
        classes: the class names; empty if the pictures have no labels.
        labels: (N,) int64; all -1 if the pictures have no labels.
    """

    def __init__(self, name: str, source: Source, labels: Tensor, classes: Sequence[str] = ()) -> None:
        """Join pictures and labels.

        Args:
            name: of the split, in errors and records.
            source: N stored pictures.
            labels: (N,) integers, the class of each.
            classes: the name of each class.

        Raises:
            InputError: for no pictures, or a label outside the classes; the message names the row.
        """
        self.name, self.source, self.classes = name, source, tuple(classes)
        self.labels = labels.to(torch.int64)
        self._decoded: dict[Key, Tensor] = {}
        self._fingerprint: str | None = None
        self._warned = False
        self._check()

    def _check(self) -> None:
        if len(self) == 0:
            raise InputError(f"split {self.name!r} is empty; give one with at least one picture, or leave it out.")
        if bool((self.labels == -1).all()):
            return
        wrong = torch.nonzero((self.labels < 0) | (self.labels >= len(self.classes)))
        if len(wrong):
            row = int(wrong[0])
            raise InputError(
                f"split {self.name!r}, {self.source.place(row)}: label {int(self.labels[row])} is outside "
                f"0..{len(self.classes) - 1} ({len(self.classes)} classes; {len(wrong)} such rows); correct or "
                "remove it."
            )

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.labels)

    def __repr__(self) -> str:
        """Name and counts."""
        return f"Split({self.name!r}, {len(self)} pictures, {len(self.classes)} classes)"

    @property
    def fingerprint(self) -> str:
        """16 hex digits of all labels and of the stored bytes of 64 pictures, evenly spaced.

        The same on every machine and path. It changes with any label, and with the number of pictures; pictures that
        are replaced or reordered change it if one of the 64 is among them. `contents` looks at the others.
        """
        if self._fingerprint is None:
            digest = hashlib.sha256(f"{len(self)} {len(self.classes)}".encode())
            digest.update(self.labels.numpy().astype("<i8").tobytes())
            for row in sampled_rows(len(self), SAMPLED):
                digest.update(bytes_at(self.name, self.source, row))
            self._fingerprint = digest.hexdigest()[:16]
        return self._fingerprint

    @cached_property
    def contents(self) -> str:
        """16 hex digits of all pictures' bytes in memory, or of the sizes of those that are stored.

        "" for those of a torch `Dataset`, which may be costly to make, or others each time.
        """
        return contents_of(self.source)

    def shape(self, geometry: Preprocessing | None = None) -> tuple[int, int, int]:
        """(C, H, W) of the first picture, after `geometry`."""
        check_geometry(geometry)
        channels, height, width = self._decode(self.source.read([0]), [0], geometry, None)[0].shape
        return channels, height, width

    def batches(
        self, size: int, *, geometry: Preprocessing | None = None, order: Tensor | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Serve pictures and labels in batches.

        The pictures are decoded once and kept, per geometry, if they fit the memory budget; otherwise
        threads decode them again in each pass, ahead of the reader, with one warning.

        Args:
            size: pictures in a batch; the last one may be smaller.
            geometry: how to resize and crop (its mean and std are not applied); without a size, as stored.
            order: (M,) row numbers to serve, in this order; None is all rows once.

        Returns:
            Pairs of images (n, C, H, W), uint8 (or the floats of a prepared Dataset), and labels (n,), int64.
            The caller may change the tensors.

        Raises:
            InputError: for a size below 1, a row that does not exist, a picture that cannot be decoded, or
                pictures of several shapes without a size.
        """
        check_geometry(geometry)
        if size < 1:
            raise InputError(f"size={size}: a batch holds at least one picture; give 1 or more.")
        rows = torch.arange(len(self)) if order is None else self.checked(order)
        return self._serve(rows.split(size) if len(rows) else (), geometry)

    def _serve(self, batches: Sequence[Tensor], geometry: Preprocessing | None) -> Iterator[tuple[Tensor, Tensor]]:
        decoded = self._whole(geometry)
        if decoded is None:
            yield from self._stream(batches, geometry)
            return
        for rows in batches:
            yield decoded[rows], self.labels[rows]

    def whole(self, geometry: Preprocessing | None = None) -> Tensor | None:
        """All pictures (N, C, H, W), decoded once and kept; None if they do not fit the memory budget.

        Args:
            geometry: as for `batches`.
        """
        check_geometry(geometry)
        return self._whole(geometry)

    @property
    def comes_with(self) -> str:
        """What the pictures come with, as a score may need it: "class labels", or "" for nothing."""
        return "class labels" if self.classes else ""

    @property
    def groups(self) -> Tensor:
        """(N,) equal for pictures that belong together: each picture is alone."""
        return torch.arange(len(self))

    @property
    def unsteady(self) -> str:
        """Why another run may serve other pictures, or in another order; "" if none does."""
        return ""

    @property
    def ordered(self) -> bool:
        """Whether every run serves the same pictures in the order of `labels`."""
        return not self.unsteady

    def take(self, n: int, *, seed: int = 0) -> Split:
        """Draw some pictures without replacement, balanced over the classes as far as possible.

        Args:
            n: number of pictures; the split itself is returned if it has no more.
            seed: of the draw; the same seed gives the same pictures.

        Raises:
            InputError: if n is below 1.
        """
        check_count(n)
        if n >= len(self):
            return self
        rows = balanced_rows(self.labels, n, seed)
        return Split(self.name, Rows(self.source, rows), self.labels[rows], self.classes)

    def checked(self, order: Tensor) -> Tensor:
        """Row numbers, int64 on the CPU.

        Raises:
            InputError: for other shapes or types, or a row that does not exist.
        """
        if order.ndim != 1 or order.is_floating_point() or order.dtype == torch.bool:
            raise InputError(
                f"order has shape {tuple(order.shape)} and type {order.dtype}; give (M,) whole row numbers."
            )
        if len(order) and (int(order.min()) < 0 or int(order.max()) >= len(self)):
            raise InputError(
                f"order has rows from {int(order.min())} to {int(order.max())}; split {self.name!r} has rows "
                f"0..{len(self) - 1}."
            )
        return order.to("cpu", torch.int64)

    def _whole(self, geometry: Preprocessing | None) -> Tensor | None:
        """All pictures (N, C, H, W), decoded on first use and kept; None if they do not fit into memory."""
        key = geometry_key(geometry)
        if key not in self._decoded:
            first = self._decode(self.source.read([0]), [0], geometry, None)[0]
            if not self._fits(first):
                return None
            self._decoded[key] = check_scale(self.name, self._fill(first, geometry))
        return self._decoded[key]

    def _fits(self, first: Tensor) -> bool:
        need, budget = len(self) * first.numel() * first.element_size(), memory_budget()
        held = sum(images.numel() * images.element_size() for images in self._decoded.values())
        if held and held + need > budget:  # drop other geometries
            self._decoded.clear()
            budget = memory_budget()
        if need > budget and not self._warned:
            self._warned = True
            warnings.warn(
                f"split {self.name!r} needs {need / 2**30:.1f} GiB decoded, more than the {budget / 2**30:.1f} GiB "
                "allowed; every pass decodes it again. Give a smaller size or fewer pictures to avoid that.",
                stacklevel=5,
            )
        return need <= budget

    def _fill(self, first: Tensor, geometry: Preprocessing | None) -> Tensor:
        images = torch.empty((len(self), *first.shape), dtype=first.dtype)
        chunks = torch.arange(len(self)).split(CHUNK)
        for rows, decoded in zip(chunks, self._ahead(chunks, geometry, first.shape), strict=True):
            images[int(rows[0]) : int(rows[-1]) + 1] = decoded
        return images

    def _stream(self, batches: Sequence[Tensor], geometry: Preprocessing | None) -> Iterator[tuple[Tensor, Tensor]]:
        shape = torch.Size(self.shape(geometry))
        decoded = self._ahead((chunk for rows in batches for chunk in rows.split(CHUNK)), geometry, shape)
        for rows in batches:
            images = torch.cat([next(decoded) for _ in range(0, len(rows), CHUNK)])
            yield check_scale(self.name, images), self.labels[rows]

    def _ahead(self, chunks: Iterable[Tensor], geometry: Preprocessing | None, shape: torch.Size) -> Iterator[Tensor]:
        """Decode chunks of rows in order, by threads that stay a few chunks ahead of the reader."""
        # Decoding a tiny picture is mostly Python, where several threads are slower than one (1.5x).
        if max(stored_size(self.source.read([0])[0]), shape.numel()) <= TINY:
            for chunk in chunks:
                yield self._decode(self.source.read(chunk.tolist()), chunk.tolist(), geometry, shape)
            return
        tasks = ((self.source.read(rows), rows) for rows in (chunk.tolist() for chunk in chunks))
        yield from ahead(lambda task: self._decode(task[0], task[1], geometry, shape), tasks)

    def _decode(
        self,
        raws: Sequence[Raw],
        rows: Sequence[int],
        geometry: Preprocessing | None,
        shape: torch.Size | None,
    ) -> Tensor:
        """Decode stored pictures to (n, C, H, W); all must have `shape`, or the shape of the first."""
        images = []
        for raw, row in zip(raws, rows, strict=True):
            images.append(self._pixels(raw, row, geometry))
            shape = shape or images[0].shape
            if images[-1].shape != shape:
                raise self._uneven(row, images[-1], shape)
        return torch.stack(images)

    def _uneven(self, row: int, image: Tensor, shape: torch.Size) -> InputError:
        prepared = "resize them in the Dataset's transform"
        fix = prepared if image.is_floating_point() else "give a size, e.g. Preprocessing(size=(224, 224))"
        return InputError(
            f"split {self.name!r}: {self.source.place(row)} has shape {tuple(image.shape)}, others "
            f"{tuple(shape)}; {fix}, so that they fit one batch."
        )

    def _pixels(self, raw: Raw, row: int, geometry: Preprocessing | None) -> Tensor:
        return self.usable(row, lambda: check_finite(to_pixels(raw, geometry)))

    def usable(self, row: int, decode: Callable[[], Tensor]) -> Tensor:
        """What a row's picture is decoded to.

        Raises:
            InputError: if it is broken, with its place.
        """
        try:
            return decode()
        except BrokenPicture as error:
            raise InputError(
                f"split {self.name!r}: the picture in {self.source.place(row)} cannot be used: {error}. "
                "Remove or replace it."
            ) from error


def check_count(n: object) -> None:
    """Refuse what is no number of pictures to take.

    Raises:
        InputError: with what was given.
    """
    if isinstance(n, bool) or not isinstance(n, SupportsIndex) or index(n) < 1:
        raise InputError(f"n={n!r}: give how many pictures to take, a whole number of at least 1.")


def balanced_rows(labels: Tensor, n: int, seed: int) -> Tensor:
    """Choose n rows at random, as evenly over the classes as their sizes allow.

    The rows of every class are taken in a random order: first one of each class, then a second of each, until
    there are n.

    Args:
        labels: (N,) integers.
        n: rows to choose.
        seed: of the draw.

    Returns:
        (n,) row numbers, ascending.
    """
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    by_class = torch.argsort(labels[shuffled], stable=True)
    _, counts = torch.unique(labels, return_counts=True)  # classes ascending, as in by_class
    starts = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    turn = torch.empty_like(by_class)
    turn[by_class] = torch.arange(len(labels)) - starts
    return shuffled[torch.argsort(turn, stable=True)[:n]].sort().values


def sampled_rows(n: int, most: int) -> list[int]:
    """At most so many of n rows, evenly spaced."""
    spaced = torch.linspace(0, n - 1, min(most, n), dtype=torch.float64)
    rows: list[int] = spaced.round().long().tolist()
    return rows


def bytes_at(split: str, source: Source, row: int) -> bytes:
    """The content of a stored picture or label map.

    Raises:
        InputError: if its file cannot be read.
    """
    try:
        return stored_bytes(source.read([row])[0])
    except OSError as error:
        raise InputError(
            f"split {split!r}: {source.place(row)} cannot be read ({error.strerror or error}); give files that you may "
            "read."
        ) from error


def stored_bytes(raw: Raw) -> bytes:
    """The content of a stored picture: its encoded bytes, or its pixels."""
    if isinstance(raw, Path | Piece):
        return raw.read_bytes() if isinstance(raw, Path) else raw.content()
    if isinstance(raw, Tensor):
        return raw.contiguous().numpy().tobytes()
    return raw.tobytes() if isinstance(raw, Image.Image) else raw


def stored_size(raw: Raw) -> int:
    """Bytes that decoding reads; 0 for a picture that is already decoded."""
    if isinstance(raw, Path):
        return os.path.getsize(raw) if os.path.exists(raw) else 0
    if isinstance(raw, Piece):
        return raw.size
    return len(raw) if isinstance(raw, bytes) else 0


def geometry_key(geometry: Preprocessing | None) -> Key:
    """The parts of a geometry that change the pixels."""
    if geometry is None:
        return ()
    colour = (geometry.channels,) if geometry.channels else ()
    if geometry.size is None:
        return colour
    return (tuple(geometry.size), geometry.crop_pct, geometry.interpolation, *colour)
