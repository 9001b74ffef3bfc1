"""Random objects and detections, and COCO's and Pascal VOC's rules in plain loops."""

from functools import cache

import numpy as np
import torch

from whatwhere.data.boxes import Objects

CLASSES = 3
Found = dict[str, torch.Tensor]


@cache
def drawn(n: int = 30, seed: int = 0, special: bool = True) -> tuple[list[Found], list[Objects]]:
    """Detections near objects, of right and wrong classes, some elsewhere; some objects are difficult or crowds."""
    rng = np.random.default_rng(seed)
    found, there = [], []
    for _ in range(n):
        count = int(rng.integers(0, 5))
        corners, sides = rng.uniform(0, 30, (count, 2)), rng.uniform(5, 20, (count, 2))
        boxes, labels = np.concatenate([corners, corners + sides], 1), rng.integers(0, CLASSES, count)
        crowd = (rng.random(count) < 0.15) & special
        difficult = (rng.random(count) < 0.15) & ~crowd & special
        there.append(Objects.of(torch.tensor(boxes), labels, difficult, crowd))
        near, classes = [], []
        for _ in range(int(rng.integers(0, 8))):
            i = int(rng.integers(0, max(count, 1)))
            if count and rng.random() < 0.8:
                near.append(boxes[i] + rng.normal(0, 1.2, 4))
                classes.append(int(labels[i] if rng.random() < 0.8 else rng.integers(0, CLASSES)))
            else:
                corner = rng.uniform(0, 30, 2)
                near.append(np.concatenate([corner, corner + rng.uniform(5, 20, 2)]))
                classes.append(int(rng.integers(0, CLASSES)))
        scores = torch.tensor(rng.random(len(near)), dtype=torch.float32)
        found.append(
            {
                "boxes": torch.tensor(np.array(near).reshape(-1, 4), dtype=torch.float32),
                "scores": scores,
                "labels": torch.tensor(classes, dtype=torch.int64),
            }
        )
    return found, there


def overlap(a: list[float], b: list[float], crowd: bool = False) -> float:
    """Intersection over union; over the first area where the second box is a crowd."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    own, other = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
    return shared / own if crowd else shared / (own + other - shared)


def outcomes(found: Found, objects: Objects, label: int, threshold: float, rule: str) -> list[tuple[float, int]]:
    """(score, 1 right, 0 wrong or -1 left out) of each detection of a class in a picture, by falling score."""
    there = [i for i in range(len(objects)) if int(objects.labels[i]) == label]
    own = [i for i in range(len(found["labels"])) if int(found["labels"][i]) == label]
    own.sort(key=lambda i: -float(found["scores"][i]))
    taken: set[int] = set()
    result = []
    for d in own:
        box = found["boxes"][d].double().tolist()
        pairs = [(overlap(box, objects.boxes[g].double().tolist(), bool(objects.crowd[g])), g) for g in there]
        if rule == "coco":
            outcome = _coco([p for p in pairs if p[0] >= threshold], objects, taken)
        else:
            outcome = _voc(max(pairs, default=(0.0, -1)), threshold, objects, taken)
        result.append((float(found["scores"][d]), outcome))
    return result


def _coco(near: list[tuple[float, int]], objects: Objects, taken: set[int]) -> int:
    free = [p for p in near if p[1] not in taken]
    regular = [p for p in free if bool(objects.counted[p[1]])]
    if regular:
        taken.add(max(regular)[1])
        return 1
    if free:
        best = max(free)[1]
        if not objects.crowd[best]:
            taken.add(best)
        return -1
    return 0


def _voc(best: tuple[float, int], threshold: float, objects: Objects, taken: set[int]) -> int:
    share, which = best
    if share < threshold:
        return 0
    if not objects.counted[which]:
        return -1
    first = which not in taken
    taken.add(which)
    return int(first)


def average_precision(scored: list[tuple[float, int]], objects: int, points: str) -> float:
    """From outcomes of all pictures, by the definition: the highest precision at each recall or a higher one."""
    right = wrong = 0
    curve = []
    for _, outcome in sorted((s for s in scored if s[1] >= 0), key=lambda s: -s[0]):
        right, wrong = right + outcome, wrong + 1 - outcome
        curve.append((right / objects, right / (right + wrong)))
    if points == "all":
        area, before = 0.0, 0.0
        for i, (recall, _) in enumerate(curve):
            area += (recall - before) * max(p for _, p in curve[i:])
            before = recall
        return area
    recalls = np.linspace(0, 1, int(points)).tolist()
    return sum(max((p for r, p in curve if r >= recall), default=0.0) for recall in recalls) / len(recalls)


def mean_ap(found: list[Found], there: list[Objects], thresholds: list[float], rule: str, points: str) -> float:
    """Over classes with objects and thresholds."""
    each = []
    for label in range(CLASSES):
        count = sum(int((o.counted & (o.labels == label)).sum()) for o in there)
        for threshold in thresholds if count else []:
            pairs = zip(found, there, strict=True)
            scored = [s for f, o in pairs for s in outcomes(f, o, label, threshold, rule)]
            each.append(average_precision(scored, count, points))
    return float(np.mean(each))
