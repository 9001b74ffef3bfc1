"""Drawn streets as scenes: the same pictures and maps as the drawing itself."""

import torch

from whatwhere.data.drawn_scenes import drawn_streets
from whatwhere.data.streets import draw_streets


def test_each_split_is_a_stream_of_its_own() -> None:
    """Seeds 3 s, 3 s + 1 and 3 s + 2, so that no two seeds of scenes share a stream."""
    scenes = drawn_streets(train=2, validation=1, test=1, size=(32, 48), seed=2)
    for number, (name, n) in enumerate((("train", 2), ("validation", 1), ("test", 1))):
        drawn, split = draw_streets(n, size=(32, 48), seed=6 + number), scenes.splits[name]
        assert len(split) == n
        for row, (picture, labels) in enumerate(split.rows()):
            assert torch.equal(picture, drawn.images[row])
            assert set(labels) == {"class", "part", "material"}
            assert all(torch.equal(labels[kind].long(), drawn.labels[kind][row].long()) for kind in labels)


def test_names_of_classes_and_of_other_maps_values() -> None:
    scenes, drawn = drawn_streets(train=1, validation=1, test=1, size=(32, 48)), draw_streets(1, size=(32, 48))
    assert scenes.name == "drawn/streets"
    assert scenes.classes == drawn.classes
    assert dict(scenes.values) == {"part": drawn.parts, "material": drawn.materials}
