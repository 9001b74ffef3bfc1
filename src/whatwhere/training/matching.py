"""Which detections of a picture find an object: COCO's rule and Pascal VOC's.

Both go through the detections of a class by falling score and give each object to one of them. COCO takes the free
object that overlaps most; VOC looks at the object that overlaps most, and counts a second detection of it as wrong.
Source: [coco] (pycocotools' evaluateImg) and [voc] (the development kit's VOCevaldet).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from whatwhere.data.boxes import Objects

Rule: TypeAlias = Literal["coco", "voc"]
Floats: TypeAlias = NDArray[np.float64]
Whole: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]
RIGHT, WRONG, LEFT_OUT = 1, 0, -1
MOST = 100  # detections of a class in a picture that COCO looks at: those with the highest scores


def matched(
    detections: Mapping[str, Any], objects: Objects, thresholds: Floats, rule: Rule
) -> tuple[Whole, Floats, Whole]:
    """What becomes of each detection of a picture.

    Args:
        detections: `boxes` (D, 4), `scores` (D,) and `labels` (D,), tensors.
        objects: what is there.
        thresholds: (T,) overlaps from which on an object is found.
        rule: of whom.

    Returns:
        Classes (D',) and scores (D',) of the detections that count, by falling score within a class, and (D', T):
        1 right, 0 wrong, -1 left out (of an object that is difficult or a crowd).
    """
    boxes, scores, labels = (_numbers(detections[name]) for name in ("boxes", "scores", "labels"))
    there, classes, difficult, crowd = map(_numbers, (objects.boxes, objects.labels, objects.difficult, objects.crowd))
    found = []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        own = own[np.argsort(-scores[own], kind="stable")][: MOST if rule == "coco" else None]
        of_class = classes == label
        spared, crowds = (difficult[of_class] + crowd[of_class]) > 0, crowd[of_class] > 0
        overlaps = overlap(boxes[own], there[of_class], crowds)
        found.append((labels[own].astype(np.int64), scores[own], RULES[rule](overlaps, spared, crowds, thresholds)))
    if not found:
        return np.zeros(0, np.int64), np.zeros(0), np.zeros((0, len(thresholds)), np.int64)
    names, values, outcomes = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return names, values, outcomes


def _numbers(values: Any) -> Floats:
    return np.asarray(values.detach().cpu(), dtype=np.float64)


def overlap(a: Floats, b: Floats, crowds: Flags) -> Floats:
    """Intersection over union of boxes (D, 4) and (G, 4): (D, G); of a crowd, over the area of the other box."""
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    shared = sides.clip(0).prod(2)
    own, other = ((x[:, 2:] - x[:, :2]).prod(1) for x in (a, b))
    union = np.where(crowds[None], own[:, None], own[:, None] + other[None] - shared)
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def by_coco(overlaps: Floats, spared: Flags, crowds: Flags, thresholds: Floats) -> Whole:
    """(D, T) outcomes, from overlaps (D, G) of detections by falling score.

    A detection takes the free object that overlaps most (of equal ones the last); only where there is none, one that is
    left out. A crowd stays free.
    """
    outcomes = np.full((len(overlaps), len(thresholds)), WRONG, np.int64)
    free = np.ones((len(thresholds), len(spared)), bool)
    for d in _near(overlaps, thresholds):
        possible = free & (overlaps[d] >= np.minimum(thresholds, 1 - 1e-10)[:, None])
        for t in np.flatnonzero(possible.any(1)):
            usual = possible[t] & ~spared
            candidates = np.flatnonzero(usual if usual.any() else possible[t])
            best = candidates[::-1][np.argmax(overlaps[d, candidates][::-1])]
            outcomes[d, t] = LEFT_OUT if spared[best] else RIGHT
            free[t, best] = crowds[best]
    return outcomes


def by_voc(overlaps: Floats, spared: Flags, crowds: Flags, thresholds: Floats) -> Whole:
    """(D, T) outcomes, from overlaps (D, G) of detections by falling score.

    A detection is of the object that overlaps most (of equal ones the first): right if it is the first of that object,
    else wrong; left out if the object is.
    """
    outcomes = np.full((len(overlaps), len(thresholds)), WRONG, np.int64)
    free = np.ones((len(thresholds), len(spared)), bool)
    for d in _near(overlaps, thresholds):
        best = int(np.argmax(overlaps[d]))
        near = overlaps[d, best] >= thresholds
        outcomes[d, near] = LEFT_OUT if spared[best] else np.where(free[near, best], RIGHT, WRONG)
        free[near, best] = False
    return outcomes


def _near(overlaps: Floats, thresholds: Floats) -> list[int]:
    """The detections that overlap something enough for the lowest threshold; all others are wrong."""
    near = (overlaps >= thresholds.min() - 1e-9).any(1) if overlaps.shape[1] else np.zeros(len(overlaps), bool)
    found: list[int] = np.flatnonzero(near).tolist()
    return found


RULES: Mapping[Rule, Callable[[Floats, Flags, Flags, Floats], Whole]] = {"coco": by_coco, "voc": by_voc}
