from typing import Any

import pytest

from whatwhere.data.concept_counts import concept_counts, matching
from whatwhere.data.concept_spec import concepts_of, settled, usual_concepts
from whatwhere.data.drawn_scenes import drawn_streets
from whatwhere.data.pixel_concepts import Colours, Positions, Textures
from whatwhere.data.scenes import Scenes
from whatwhere.errors import InputError


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
        ({"named": [3]}, r"named=\[3\] must be a list of names"),
        ({"merged": ["car"]}, r"merged=\['car'\] must be groups"),
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
