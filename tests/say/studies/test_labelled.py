"""Label maps of which nothing can be learned, and concepts that are nowhere or everywhere."""

from dataclasses import replace

import pytest
import torch

from whatwhere.data.scenes import Scenes, SceneSplit
from whatwhere.data.sources import Memory
from whatwhere.errors import InputError
from whatwhere.label_maps import IGNORE
from whatwhere.say.concepts import Merged
from whatwhere.say.pixel_concepts import Colours
from whatwhere.say.studies.compare_plan import ComparePlan
from whatwhere.say.studies.labelled import check_classes, left_out_note, never_both

CLASSES = ("road", "sky", "car")


def split(name: str, maps: torch.Tensor, pictures: torch.Tensor | None = None) -> SceneSplit:
    given = torch.zeros(len(maps), 3, *maps.shape[1:], dtype=torch.uint8) if pictures is None else pictures
    return SceneSplit(name, Memory(given), {"class": Memory(maps.to(torch.uint8))}, CLASSES)


def test_one_class_or_none_is_refused():
    two = split("train", torch.arange(24).view(2, 3, 4) % 2)
    check_classes(two, two, two)
    alone, none = (split("test", torch.full((4, 3, 4), value)) for value in (1, IGNORE))
    with pytest.raises(
        InputError, match=r"data: the label maps of split 'test' \(4 pictures\) hold only 'sky'; give maps"
    ):
        check_classes(two, alone)
    with pytest.raises(InputError, match="hold no class at all"):
        check_classes(none, two)
    check_classes(two, two, alone)  # thresholds can be set on one class
    with pytest.raises(InputError, match="give maps with labelled pixels"):
        check_classes(two, two, none)


def test_no_more_maps_are_read_than_needed(monkeypatch):
    read = []
    maps = torch.arange(800 * 12).view(800, 3, 4) % 2
    many = split("train", maps)
    real = Memory.read
    monkeypatch.setattr(Memory, "read", lambda self, rows: read.extend(rows) or real(self, rows))
    check_classes(many, many)
    assert len(read) < 100


def test_concepts_that_are_nowhere_or_everywhere_are_found():
    maps = torch.tensor([0, 1, IGNORE]).view(1, 3, 1).expand(6, 3, 4)
    train = split("train", maps)
    every = Merged({"all": CLASSES, "none": ["car"], "some": ["road"]}, CLASSES)
    missing = never_both(every, train)
    assert missing == {"all": "absent", "none": "present"}
    assert left_out_note(missing) == [
        "Concepts left out, as the training pictures show them never present: none.",
        "Concepts left out, as the training pictures show them never absent: all.",
    ]
    assert left_out_note({}) == []
    assert "and 3 more" in left_out_note({str(i): "present" for i in range(15)})[0]


def test_only_pictures_that_heads_are_fitted_on_count():
    """Red is in the fifth picture alone, which calibrates."""
    pictures = torch.full((5, 3, 3, 4), 128, dtype=torch.uint8)
    pictures[4, :, 0] = torch.tensor([255, 0, 0], dtype=torch.uint8).view(3, 1)
    maps = torch.arange(60).view(5, 3, 4) % 2
    assert never_both(Colours(), split("train", maps, pictures))["colour: red"] == "present"
    pictures[0, :, 0] = pictures[4, :, 0]
    assert "colour: red" not in never_both(Colours(), split("train", maps, pictures))


def grey(scenes: Scenes) -> Scenes:
    """The same scenes without any colour."""
    splits = {}
    for name, held in scenes.splits.items():
        rows = list(held.rows())
        pictures = torch.stack([p.float().mean(0, keepdim=True).expand_as(p).to(torch.uint8) for p, _ in rows])
        maps = {"class": Memory(torch.stack([labels["class"] for _, labels in rows]))}
        splits[name] = SceneSplit(name, Memory(pictures), maps, held.classes)
    return Scenes("grey", splits)


@pytest.mark.slow
def test_default_concepts_leave_out_colours_that_never_occur_and_say_so(said, tmp_path, no_figures):
    study = replace(said.study, data=grey(said.scenes), concepts=None, kinds=("ssb",), epochs=1)
    plan = ComparePlan(study)
    assert plan.left_out == dict.fromkeys(
        [n for n in Colours().names if n[8:] not in ("black", "grey", "white")], "present"
    )
    assert any("never present: colour: blue" in w for w in plan.warnings())
    found = study.run(tmp_path, quiet=True)
    names = found.row("middle", "ssb").names
    assert "colour: grey" in names
    assert "colour: red" not in names
    assert any("never present: colour: blue, colour: brown" in n for n in found.notes)
    again = replace(study, concepts=found.settings["concepts"])  # as the study recorded them
    assert again.run(tmp_path, quiet=True).row("middle", "ssb") == found.row("middle", "ssb")


def test_concepts_of_which_none_is_left_are_refused(said):
    study = replace(said.study, data=grey(said.scenes), concepts={"colours": True, "only": ["colour: red"]})
    with pytest.raises(
        InputError, match=r"concepts: none is usable\. Concepts left out, .* never present: colour: red"
    ):
        ComparePlan(study).shared()
