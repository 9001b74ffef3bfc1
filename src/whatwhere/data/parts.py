"""A data set as named splits, and how parts that were read separately are joined."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from whatwhere.data.listing import several
from whatwhere.data.sources import Source
from whatwhere.data.split import Split
from whatwhere.data.split_names import TEST, TRAIN, VALIDATION, first_of
from whatwhere.errors import InputError

EVALUATION = (*TEST, *VALIDATION)
COUNTED = 100  # labels without names may go to so many times the number of classes that occur; beyond, one is wrong
FEW = 10_000  # but to this number in any case


@dataclass(frozen=True)
class Data:
    """Named splits of one data set.

    Attributes:
        name: in reports.
        splits: by name: "train", "test", ...
        notes: what the reader must know of the pictures, such as files that were passed over.
    """

    name: str
    splits: Mapping[str, Split]
    notes: tuple[str, ...] = ()

    @property
    def train(self) -> Split:
        """The split to learn from."""
        return self._first(TRAIN, "to train on ('train')")

    @property
    def test(self) -> Split:
        """The split to evaluate on: "test", else "validation", by any usual name; with labels before without."""
        found = to_test_on(self.splits)
        return self._first(EVALUATION, "to evaluate on ('test' or 'validation')") if found is None else found

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, the same for every split."""
        return next(iter(self.splits.values())).classes

    def _first(self, names: tuple[str, ...], purpose: str) -> Split:
        found = first_of(self.splits, names)
        if found is not None:
            return found
        raise InputError(
            f"data {self.name!r} has no split {purpose}; it has "
            f"{', '.join(map(repr, self.splits))}. Name one: load_data({{{names[0]!r}: ...}})."
        )

    def describe(self) -> dict[str, Any]:
        """Plain values for a record: name, pictures per split, number of classes, fingerprints, and notes if any."""
        return {
            "name": self.name,
            "sizes": {name: len(split) for name, split in self.splits.items()},
            "classes": len(self.classes),
            "fingerprints": {name: split.fingerprint for name, split in self.splits.items()},
            **({"notes": list(self.notes)} if self.notes else {}),
        }


def to_test_on(splits: Mapping[str, Split]) -> Split | None:
    """The split to evaluate on: the first by its name of those with labels, else of all."""
    labelled = {name: split for name, split in splits.items() if bool((split.labels >= 0).any())}
    return first_of(labelled, EVALUATION) or first_of(splits, EVALUATION)


def _untold(splits: Mapping[str, Split]) -> list[str]:
    """A note on a test split without labels, as of benchmarks that keep them, where another one has them."""
    usual, instead = first_of(splits, EVALUATION), to_test_on(splits)
    if usual is None or instead is None or usual is instead:
        return []
    return [f"split {usual.name!r} has no labels; {instead.name!r}, which has, is evaluated on."]


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


def assemble(name: str, parts: Mapping[str, Part | Split], notes: Sequence[str] = ()) -> Data:
    """Join parts into one data set whose splits share their classes.

    Args:
        name: in reports.
        parts: by split.
        notes: what the reader must know of how they were read.

    Raises:
        InputError: for no parts, parts that name different classes, or a part that is empty or mislabelled.
    """
    if not parts:
        raise InputError(f"source: {name!r} holds no split; give at least one, e.g. {{'test': dataset}}.")
    classes = shared_classes(name, parts)
    splits = {}
    for split, part in parts.items():
        splits[split] = part if isinstance(part, Split) else part.make(split, part.source, part.labels, classes)
    seen = {split: held.labels.unique().tolist() for split, held in splits.items() if held.classes}
    counted = all(part.classes is None for part in parts.values())
    more = [*_untold(splits), *_unseen(splits, seen), *_alone(splits, seen)]
    return Data(name, splits, (*notes, *more, *(_counted(classes, seen) if counted else [])))


def _alone(splits: Mapping[str, Split], seen: Mapping[str, list[int]]) -> list[str]:
    """Notes on splits of one class only, where there are others."""
    return [
        f"split {split!r} holds pictures of one class only, {splits[split].classes[labels[0]]!r}: a network that "
        "always predicts it is always right."
        for split, labels in seen.items()
        if len(labels) == 1 < min(len(splits[split]), len(splits[split].classes)) and labels[0] >= 0
    ]


def _counted(classes: Sequence[str], seen: Mapping[str, list[int]]) -> list[str]:
    """A note on classes that were counted up to the highest label, most of which do not occur."""
    occur = len({label for labels in seen.values() for label in labels})
    if 2 * occur >= len(classes):
        return []
    return [f"labels go to {len(classes) - 1}, so {len(classes)} classes are assumed, of which {occur} occur."]


def _unseen(splits: Mapping[str, Split], seen: Mapping[str, list[int]]) -> list[str]:
    """A note on classes that occur in another split, and never in the one to learn from."""
    train, there = first_of(splits, TRAIN), first_of(seen, TRAIN)
    if train is None or there is None or there == [-1]:  # pictures without labels are of any class
        return []
    missing = sorted({label for labels in seen.values() for label in labels} - {*there, -1})
    names = several(repr(train.classes[label]) for label in missing)
    return [f"split {train.name!r} holds no picture of {names}, which other splits hold."] if names else []


def shared_classes(name: str, parts: Mapping[str, Part | Split]) -> tuple[str, ...]:
    """The class names that the parts state, or numbers up to the highest label."""
    named = {split: part.classes for split, part in parts.items() if part.classes is not None}
    if len(set(named.values())) > 1:
        counts = ", ".join(f"{split!r}: {len(classes)} classes" for split, classes in named.items())
        raise InputError(f"source: the splits of {name!r} name different classes ({counts}); give them the same ones.")
    if named:
        return next(iter(named.values()))
    return counted_classes({split: part.labels for split, part in parts.items()})


def counted_classes(labels: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Numbers up to the highest label, as the names of classes that have none.

    Args:
        labels: by split.

    Raises:
        InputError: if the highest label is far beyond the number of classes that occur.
    """
    highest, split = max((int(part.max()) if len(part) else -1, split) for split, part in labels.items())
    occur = len(torch.cat([*labels.values()]).unique())
    if highest >= max(FEW, COUNTED * occur):
        row = int((labels[split] == highest).nonzero()[0])
        raise InputError(
            f"source: split {split!r}, row {row} has the label {highest}, and only {occur} classes occur; correct it, "
            "or give a Dataset that names its classes (`classes`)."
        )
    return tuple(str(i) for i in range(highest + 1))
