"""How often concepts occur, their mutual information with the class, and the choice of concepts by both."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whatwhere.errors import InputError, unknown
from whatwhere.label_maps import CLASS, IGNORE
from whatwhere.say.checked import within
from whatwhere.say.concepts import ABSENT, PRESENT, UNLABELLED, ConceptSource, Selected, label_map


@dataclass(frozen=True)
class ConceptCounts:
    """Counts of K concepts over pictures, and of each with the C classes of the task.

    Attributes:
        names: (K,) the concepts.
        classes: (C,) the classes.
        present: (K,) pixels where the concept is present.
        labelled: (K,) pixels where it is present or absent.
        pictures: (K,) pictures with at least one pixel where it is present.
        joint: (K, 2, C) pixels where concept and class are both labelled: [:, 1] present, [:, 0] absent.
        seen: number of pictures counted.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    present: Tensor
    labelled: Tensor
    pictures: Tensor
    joint: Tensor
    seen: int

    @property
    def share(self) -> Tensor:
        """(K,) present / labelled, float64; not a number where nothing is labelled."""
        return self.present.double() / self.labelled.double()

    @property
    def bits(self) -> Tensor:
        """(K,) mutual information of concept and class over the pixels where both are labelled, in bits, float64."""
        return torch.tensor([mutual_information(counts.numpy()) for counts in self.joint], dtype=torch.float64)

    @property
    def copies(self) -> dict[str, str]:
        """Concepts that are, in these pictures, there exactly where one class is (or exactly where it is not)."""
        found = {name: self._copied(joint) for name, joint in zip(self.names, self.joint, strict=True)}
        return {name: copied for name, copied in found.items() if copied is not None}

    def _copied(self, joint: Tensor) -> str | None:
        with_concept, without = (joint[state] > 0 for state in (PRESENT, ABSENT))
        if bool((with_concept & without).any()):
            return None
        alone = [side.nonzero().flatten().tolist() for side in (with_concept, without)]
        return next((self.classes[c[0]] for c in alone if len(c) == 1 and all(alone)), None)

    def table(self) -> list[dict[str, Any]]:
        """A row for each concept."""
        return [
            {
                "concept": name,
                "pixels present": int(self.present[k]),
                "pixels labelled": int(self.labelled[k]),
                "share": float(self.share[k]),
                "pictures": int(self.pictures[k]),
                "bits about the class": float(self.bits[k]),
                "copy of": self.copies.get(name),
            }
            for k, name in enumerate(self.names)
        ]


def concept_counts(
    source: ConceptSource,
    rows: Iterable[tuple[Tensor, Mapping[str, Tensor]]],
    classes: Sequence[str],
    *,
    map: str = CLASS,
) -> ConceptCounts:
    """Count concepts over pictures.

    >>> concept_counts(source, split.rows(), split.classes).table()

    Args:
        source: the K concepts.
        rows: pictures (3, H, W) with their label maps; a picture without the map `map` counts for frequency only.
        classes: a name for each value of that map.
        map: the task's label map.

    Raises:
        InputError: no picture, or a label map that cannot be used.
    """
    k, c = len(source.names), len(classes)
    present, labelled, pictures = (torch.zeros(k, dtype=torch.int64) for _ in range(3))
    joint, seen = torch.zeros(k, 2, c, dtype=torch.int64), 0
    for picture, labels in rows:
        maps = source(picture, labels)
        there = (maps == PRESENT).flatten(1).sum(1)
        present, pictures, seen = present + there, pictures + (there > 0), seen + 1
        labelled += (maps != UNLABELLED).flatten(1).sum(1)
        if map in labels:
            joint += joint_counts(maps, label_map(picture, labels, map, c), c)
    if not seen:
        raise InputError("rows is empty; give at least one picture with its label maps.")
    return ConceptCounts(source.names, tuple(classes), present, labelled, pictures, joint, seen)


def joint_counts(maps: Tensor, values: Tensor, classes: int) -> Tensor:
    """Pixels by concept, state and class.

    Args:
        maps: (K, H, W) int8 of -1, 0 and 1.
        values: (H, W) classes, 0..C - 1, and `IGNORE`.
        classes: C.

    Returns:
        (K, 2, C) int64: absent, present.
    """
    inside = (values != IGNORE).flatten()
    # A product of zeros and ones counts many times faster than a histogram; float32 is exact up to 2**24 pixels.
    exact = torch.float32 if values.numel() < 2**24 else torch.float64
    of_class = (values.flatten()[inside, None] == torch.arange(classes)).to(exact)  # (P, C)
    states = maps.flatten(1)[:, inside]
    return torch.stack([((states == state).to(exact) @ of_class).long() for state in (ABSENT, PRESENT)], dim=1)


def mutual_information(counts: NDArray[np.int64]) -> float:
    """Mutual information of two variables from their joint counts, in bits.

    Args:
        counts: (A, B), whole numbers.

    Returns:
        sum p(a, b) log2(p(a, b) / (p(a) p(b))); 0 for no counts.

    Raises:
        InputError: for a count below 0.
    """
    if (counts < 0).any():
        raise InputError(f"counts: from {counts.min()}; give counts of 0 or more.")
    total = int(counts.sum())
    if total == 0:
        return 0.0
    p = counts / total
    expected = p.sum(1, keepdims=True) * p.sum(0, keepdims=True)
    seen = p > 0
    return max(0.0, float((p[seen] * np.log2(p[seen] / expected[seen])).sum()))  # rounding can fall below 0


def select(
    source: ConceptSource,
    *,
    names: Sequence[str] = ("*",),
    counts: ConceptCounts | None = None,
    share: float = 0.0,
    pictures: int = 0,
    bits: float = 0.0,
    most: int | None = None,
) -> Selected:
    """Choose concepts by name, by how often they occur, and by their mutual information with the class.

    >>> select(source, names=["part: *"], counts=counts, pictures=10, most=40)

    Args:
        source: the concepts to choose from.
        names: patterns such as `"part: *"`; a concept that fits one of them stays.
        counts: of the source's concepts, for what follows; take them on training pictures.
        share: least share of a concept's labelled pixels where it is present; a concept that is labelled nowhere
            never stays once counts are used.
        pictures: least number of pictures where it is present.
        bits: least mutual information with the class, in bits.
        most: at most as many concepts, those with the most bits.

    Returns:
        The chosen concepts, in the source's order.

    Raises:
        InputError: a pattern fits nothing, a limit is out of range, counts are missing or of other concepts, or nothing
            is left.
    """
    if most is not None and most < 1:
        raise InputError(f"most={most}: keep at least one concept, or leave it out to keep all.")
    for limit, value, highest in (("share", share, 1.0), ("pictures", pictures, math.inf), ("bits", bits, math.inf)):
        within(limit, value, 0, highest)
    chosen = matching(source.names, names)
    if share or pictures or bits or most is not None:
        chosen = _frequent(_counted(source, counts), chosen, share, pictures, bits)[:most]
    if not chosen:
        raise InputError(
            f"share={share}, pictures={pictures}, bits={bits} leave none of {len(source.names)} concepts; lower them."
        )
    return Selected(source, [name for name in source.names if name in chosen])


def matching(known: Sequence[str], patterns: Sequence[str], argument: str = "names") -> list[str]:
    """The names that fit a pattern.

    Args:
        known: all names.
        patterns: such as "part: *".
        argument: that gave the patterns, for errors.

    Raises:
        InputError: no pattern, or one that fits none.
    """
    if isinstance(patterns, str) or not patterns:
        raise InputError(f"{argument}={patterns!r}: give a list of names or patterns, such as ['part: *'].")
    for pattern in patterns:
        if not any(_fits(name, pattern) for name in known):
            raise unknown(argument, pattern, known)
    return [name for name in known if any(_fits(name, pattern) for pattern in patterns)]


def _fits(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)  # a name with brackets in it fits itself


def _counted(source: ConceptSource, counts: ConceptCounts | None) -> ConceptCounts:
    if counts is None:
        raise InputError("share, pictures, bits and most need counts=concept_counts(source, rows, classes).")
    if counts.names != source.names:
        raise InputError("counts are of other concepts than source has; count the same source.")
    return counts


def _frequent(counts: ConceptCounts, among: list[str], share: float, pictures: int, bits: float) -> list[str]:
    """Those that are frequent and telling enough, the most telling first."""
    each = zip(counts.names, counts.share.tolist(), counts.pictures.tolist(), counts.bits.tolist(), strict=True)
    enough = [(b, name) for name, s, p, b in each if name in among and s >= share and p >= pictures and b >= bits]
    return [name for _, name in sorted(enough, key=lambda pair: -pair[0])]
