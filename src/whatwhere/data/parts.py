"""A data set as named splits, and how parts that were read separately are joined."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from whatwhere.data.sources import Source
from whatwhere.data.split import Split
from whatwhere.errors import InputError

EVALUATION = ("test", "validation", "val", "valid")


@dataclass(frozen=True)
class Data:
    """Named splits of one data set.

    Attributes:
        name: in reports.
        splits: by name: "train", "test", ...
    """

    name: str
    splits: Mapping[str, Split]

    @property
    def train(self) -> Split:
        """The split to learn from."""
        return self._first(("train",), "to train on")

    @property
    def test(self) -> Split:
        """The split to evaluate on: "test", else "validation", "val" or "valid"."""
        return self._first(EVALUATION, "to evaluate on")

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, the same for every split."""
        return next(iter(self.splits.values())).classes

    def _first(self, names: tuple[str, ...], purpose: str) -> Split:
        for name in names:
            if name in self.splits:
                return self.splits[name]
        raise InputError(
            f"data {self.name!r} has no split {purpose} ({' or '.join(map(repr, names))}); it has "
            f"{', '.join(map(repr, self.splits))}. Name one: load_data({{{names[0]!r}: ...}})."
        )

    def describe(self) -> dict[str, Any]:
        """Plain values for a record: name, pictures per split, number of classes, fingerprints."""
        return {
            "name": self.name,
            "sizes": {name: len(split) for name, split in self.splits.items()},
            "classes": len(self.classes),
            "fingerprints": {name: split.fingerprint for name, split in self.splits.items()},
        }


@dataclass(frozen=True)
class Part:
    """One split as it was read, before classes are shared by all parts.

    Attributes:
        source: N pictures.
        labels: (N,) integers; all -1 if the pictures have no labels.
        classes: the class names; None: unknown, counted from the labels of all parts.
        make: builds the split from its name, the source, the labels and the shared classes.
    """

    source: Source
    labels: Tensor
    classes: tuple[str, ...] | None = None
    make: Callable[[str, Source, Tensor, Sequence[str]], Split] = Split


def assemble(name: str, parts: Mapping[str, Part | Split]) -> Data:
    """Join parts into one data set whose splits share their classes.

    Raises:
        InputError: for no parts, parts that name different classes, or a part that is empty or mislabelled.
    """
    if not parts:
        raise InputError(f"source: {name!r} holds no split; give at least one, e.g. {{'test': dataset}}.")
    classes = shared_classes(name, parts)
    splits = {}
    for split, part in parts.items():
        splits[split] = part if isinstance(part, Split) else part.make(split, part.source, part.labels, classes)
    return Data(name, splits)


def shared_classes(name: str, parts: Mapping[str, Part | Split]) -> tuple[str, ...]:
    """The class names that the parts state, or numbers up to the highest label."""
    named = {split: part.classes for split, part in parts.items() if part.classes is not None}
    if len(set(named.values())) > 1:
        counts = ", ".join(f"{split!r}: {len(classes)} classes" for split, classes in named.items())
        raise InputError(f"source: the splits of {name!r} name different classes ({counts}); give them the same ones.")
    if named:
        return next(iter(named.values()))
    highest = max(int(part.labels.max()) if len(part.labels) else -1 for part in parts.values())
    return tuple(str(i) for i in range(highest + 1))
