from pathlib import Path
from typing import Any

import pytest
import torch

from whatwhere.data.cityscapes import CATEGORIES, CLASSES
from whatwhere.data.drawn_scenes import drawn_streets
from whatwhere.data.scenes import Scenes, SceneSplit
from whatwhere.data.sources import Memory
from whatwhere.errors import InputError
from whatwhere.say.concept_counts import concept_counts, matching
from whatwhere.say.pixel_concepts import Colours, Positions, Textures
from whatwhere.say.studies.concept_spec import concepts_of, notes_of, plain_spec, settled, usual_concepts


@pytest.fixture(scope="module")
def streets() -> Scenes:
    return drawn_streets(train=1, validation=1, test=1, size=(32, 48))


def test_sources_are_joined_in_one_order(streets: Scenes) -> None:
    spec = {
        "positions": True,
        "textures": True,
        "named": ["part"],
        "colours": True,
        "merged": {"vehicle": ["car", "bus"]},
    }
    parts = tuple(f"part: {p}" for p in streets.values["part"])
    found = concepts_of(spec, streets)
    assert found.names == ("vehicle", *parts, *Colours().names, *Textures().names, *Positions().names)
    picture, labels = streets.train[0]
    maps = found(picture, labels)
    assert maps.shape == (len(found.names), 32, 48)
    members = [streets.classes.index(c) for c in ("car", "bus")]
    for r in range(0, 32, 5):
        for c in range(0, 48, 5):
            value = int(labels["class"][r, c])
            assert int(maps[0, r, c]) == (-1 if value == 255 else int(value in members))


def test_only_keeps_names_by_pattern(streets: Scenes) -> None:
    spec = {"named": "material", "positions": True, "only": ["material: *"]}
    assert concepts_of(spec, streets).names == tuple(f"material: {m}" for m in streets.values["material"])
    assert concepts_of({"positions": True, "colours": False, "only": []}, streets).names == Positions().names
    one = Positions().names[0]
    assert concepts_of({"positions": True, "only": one}, streets).names == (one,)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"color": True}, r"concepts='color' matches nothing.* 'colours'.*merged, named"),
        ({"named": ["parts"]}, r"concepts: named='parts' matches nothing.* 'part'"),
        ({"named": True}, "named=True must be a list of names"),
        ({"colours": "no"}, "concepts: colours='no' must be true or false"),
        ({"merged": {"vehicle": "car"}}, r"concepts: merged: groups\['vehicle'\]='car': give a list of names"),
        ({"positions": True, "only": ["up"]}, "concepts: only='up' matches nothing"),
        ({"positions": False}, "names none; give some of merged, named, colours, textures, positions, broden"),
        ({"positions": True, "select": {"share": 1.5}}, "share=1.5: give a number of at least 0, at most 1"),
        ({"named": [3]}, r"named=\[3\] must be a list of names"),
        ({"merged": ["car"]}, r"merged=\['car'\] must be groups.* or 'cityscapes'"),
        ({"merged": {"vehicle": ["cart"]}}, r"'cart' matches nothing.* 'car'"),
        ({"positions": True, "only": ["colour: *"]}, r"'colour: \*' matches nothing"),
        ({}, "names none; give some of merged"),
        ({"colours": False, "only": ["x"]}, "names none"),
        ({"positions": True, "select": 3}, "select=3 must be limits"),
        ({"positions": True, "select": {"picture": 3}}, r"select='picture' matches nothing.* 'pictures'"),
        ({"positions": True, "select": {"most": 1.5}}, "most=1.5 must be a whole number"),
        ({"positions": True, "select": {"most": True}}, "most=True must be"),
        ({"positions": True, "select": {"bits": 9}}, "bits=9 leave none"),
    ],
)
def test_what_cannot_be_used_is_named(streets: Scenes, spec: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        concepts_of(spec, streets)


def test_a_choice_by_counts_is_settled_by_name(streets: Scenes) -> None:
    spec = {"named": ["part"], "positions": True, "only": ["p*"], "select": {"most": 3}}
    source = concepts_of(spec, streets)
    assert len(source.names) == 3
    fixed = settled(spec, streets)
    assert fixed == {"named": ["part"], "positions": True, "only": list(source.names)}
    assert concepts_of(fixed, streets).names == source.names
    every = concepts_of({**spec, "select": {}}, streets)
    counts = concept_counts(every, streets.train.rows(), streets.classes)
    told = dict(zip(counts.names, counts.bits.tolist(), strict=True))
    assert sorted(source.names) == sorted(sorted(told, key=lambda name: -told[name])[:3])


def test_a_name_with_brackets_fits_itself() -> None:
    assert matching(["part: [x]", "part: x"], ["part: [x]"]) == ["part: [x]", "part: x"]


def test_scenes_without_other_maps_offer_none(streets: Scenes) -> None:
    plain = Scenes("plain", streets.splits)
    with pytest.raises(InputError, match="none of these scenes' label maps"):
        concepts_of({"named": ["part"]}, plain)


def test_the_usual_concepts_can_be_had(streets: Scenes) -> None:
    assert usual_concepts(streets) == {"named": ["material", "part"], "positions": True}
    assert usual_concepts(Scenes("plain", streets.splits)) == {"colours": True, "textures": True, "positions": True}
    for scenes in (streets, Scenes("plain", streets.splits)):
        assert len(concepts_of(usual_concepts(scenes), scenes).names) > 3


def scenes_of(*classes: str) -> Scenes:
    """A picture whose first row has every class once."""
    maps = torch.zeros(1, 2, len(classes), dtype=torch.uint8)
    maps[0, 0] = torch.arange(len(classes))
    pictures = Memory(torch.zeros(1, 3, 2, len(classes), dtype=torch.uint8))
    return Scenes("few", {"train": SceneSplit("train", pictures, {"class": Memory(maps)}, classes)})


def test_categories_of_cityscapes() -> None:
    scenes = scenes_of(*CLASSES.values())
    spec = plain_spec("cityscapes")
    assert spec == {"merged": "cityscapes"}
    source = concepts_of(spec, scenes)
    assert source.names == tuple(CATEGORIES)
    maps = source(*scenes.train[0])
    for c, name in enumerate(scenes.classes):
        there = [category for category, k in zip(CATEGORIES, maps[:, 0, c].tolist(), strict=True) if k]
        assert there == [category for category, members in CATEGORIES.items() if name in members]
    fixed = settled({**spec, "positions": True}, scenes)
    assert fixed == {"merged": {k: list(v) for k, v in CATEGORIES.items()}, "positions": True}
    assert notes_of(spec, scenes) == []


def test_categories_of_scenes_with_some_of_the_classes() -> None:
    """`human` would be the class person; nothing is an object; nature is two classes."""
    scenes = scenes_of("sky", "road", "sidewalk", "vegetation", "terrain", "person", "car", "bus", "boat")
    assert settled({"merged": "cityscapes"}, scenes)["merged"] == {
        "flat": ["road", "sidewalk"],
        "nature": ["vegetation", "terrain"],
        "vehicle": ["car", "bus"],
    }
    (note,) = notes_of({"merged": "cityscapes"}, scenes)
    assert note == "Categories of Cityscapes that would copy a class here are left out: human (person)."
    with pytest.raises(InputError, match=r"none of its categories \(flat, .*\) merges several classes of 'few'"):
        concepts_of({"merged": "cityscapes"}, scenes_of("sky", "car", "person", "boat"))
    with pytest.raises(InputError, match="none of its categories"):  # flat is all but the sky: a copy as well
        concepts_of({"merged": "cityscapes"}, scenes_of("sky", "road", "sidewalk"))


def test_concepts_by_name_file_or_mapping(tmp_path: Path) -> None:
    assert plain_spec("broden/some/folder") == {"broden": "some/folder"}
    assert plain_spec({"positions": True}) == {"positions": True}
    file = tmp_path / "c.json"
    file.write_text('{"colours": true}')
    assert plain_spec(file) == plain_spec(str(file)) == {"colours": True}
    for text, message in (("[]", "must hold an object"), ('{"color": 1}', "'colours'"), ("{", "a JSON file")):
        file.write_text(text)
        with pytest.raises(InputError, match=message):
            plain_spec(file)
    with pytest.raises(InputError, match="Choices: cityscapes, broden/FOLDER, <a JSON file>"):
        plain_spec("broden")
