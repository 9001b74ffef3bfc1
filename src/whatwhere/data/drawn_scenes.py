"""Drawn streets as scenes: for the demo, the tests, and studies of a few minutes."""

from __future__ import annotations

from whatwhere.data.scenes import Scenes, SceneSplit
from whatwhere.data.sources import Memory
from whatwhere.data.streets import draw_streets

SIZES = {"train": 400, "validation": 100, "test": 120}


def drawn_streets(
    *,
    train: int = SIZES["train"],
    validation: int = SIZES["validation"],
    test: int = SIZES["test"],
    size: tuple[int, int] = (96, 128),
    seed: int = 0,
) -> Scenes:
    """Draw streets with label maps `class`, `part` and `material`; splits come from separate random streams.

    Args:
        train: number of training scenes.
        validation: number of scenes to set thresholds on.
        test: number of test scenes.
        size: (height, width) in pixels.
        seed: of every draw.
    """
    splits, values = {}, {}
    for number, (name, n) in enumerate({"train": train, "validation": validation, "test": test}.items()):
        drawn = draw_streets(n, size=size, seed=3 * seed + number)
        maps = {kind: Memory(labels) for kind, labels in drawn.labels.items()}
        splits[name] = SceneSplit(name, Memory(drawn.images), maps, drawn.classes)
        values = {"part": drawn.parts, "material": drawn.materials}
    return Scenes("drawn/streets", splits, values=values)
