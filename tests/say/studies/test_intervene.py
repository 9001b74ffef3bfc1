"""Overwritten concept maps, and what changes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from whatwhere.errors import InputError
from whatwhere.say.layer import layer_of, overwriting
from whatwhere.say.studies.intervene import intervene, intervened

SITE, ROW = "middle", 3


def test_the_value_it_has_changes_nothing(speaker):
    constant = speaker.said.maps[ROW].clone()
    change = intervened(speaker, ROW, {})
    assert change.changed == 0
    assert torch.equal(change.edited, constant)
    tiny = replace(speaker)
    tiny.__dict__["said"] = replace(speaker.said, maps=speaker.said.maps.clone())
    tiny.said.maps[ROW, 2] = 0.25
    same = intervened(tiny, ROW, {speaker.layer.names[2]: 0.25})
    assert same.changed == 0
    assert torch.equal(same.maps, same.edited)


def test_a_concept_is_overwritten_as_by_hand(speaker):
    name = "place: lower"
    k = speaker.layer.names.index(name)
    change = intervened(speaker, ROW, {name: 1.0})
    picture = speaker.bench.net.preprocessing.normalise(speaker.test.split[ROW][0][None])
    with torch.no_grad(), overwriting(layer_of(speaker.module), lambda m: m.index_fill(1, torch.tensor([k]), 1.0)):
        said = torch.nn.functional.interpolate(speaker.module(picture), size=(8, 12), mode="nearest-exact").argmax(1)[0]
    assert (said == change.after).float().mean() > 0.97  # features are kept in half precision
    assert change.changed > 0


def test_truth_is_the_labels_where_there_are_any(speaker):
    change = intervened(speaker, ROW, {"*": "truth"})
    given = speaker.test.shares_at(torch.tensor([ROW]))[0]
    for k in range(len(given)):
        for y, x in np.ndindex(8, 12):
            expected = change.maps[k, y, x] if given[k, y, x] < 0 else given[k, y, x]
            assert change.edited[k, y, x] == expected
    assert (given < 0).any()


def test_only_in_the_box(speaker):
    change = intervened(speaker, ROW, {"part: *": 0}, box=(0.5, 1, 0, 0.25))
    touched = change.edited != change.maps
    assert touched[:, :4].sum() == touched[:, :, 3:].sum() == 0
    parts = [n.startswith("part:") for n in speaker.layer.names]
    assert touched[:, 4:, :3].flatten(1).any(1).tolist() == parts
    assert bool((change.edited[parts][:, 4:, :3] == 0).all())


def test_a_change_says_that_it_is_of_one_picture(speaker):
    change = intervened(speaker, ROW, {"place: lower": 1.0})
    assert str(change).endswith("It is one of 8 test pictures (number 3); others were not changed.")
    assert str(replace(change, pictures=None)).endswith("% of the picture.")


def test_an_intervention_sets_something(said):
    with pytest.raises(InputError, match="values is empty"):
        intervene(said.study, said.out, ROW, {})


@pytest.mark.parametrize(
    ("row", "values", "box", "message"),
    [
        (99, {"part: wall": 0}, None, "no test picture 99"),
        (0, {"part: wal": 0}, None, "Did you mean 'part: wall'"),
        (0, {"part: wall": 1.5}, None, "from 0"),
        (0, {"part: wall": float("nan")}, None, "from 0"),
        (0, {"part: wall": "true"}, None, "'truth'"),
        (0, {"part: wall": 0}, (0.5, 0.5, 0, 1), "top, bottom"),
        (0, {"part: wall": 0}, (0, 200, 0, 300), r"box=\(0, 200, 0, 300\): give .* from 0 to 1"),  # pixels, not shares
        (0, {"part: wall": 0}, (-1, 1, 0, 1), "from 0 to 1"),
        (0, {"part: wall": 0}, (0, 1, 0), "give top, bottom, left, right"),
        (0, {"part: wall": 0}, (0, 1, float("nan"), 1), "from 0 to 1"),
        (0, {"part: wall": 0}, (0, 0.01, 0, 1), r"holds no cell's centre of 8 x 12"),
        (0, {"part: wal": 0}, None, r"set \(values in Python\)='part: wal'"),
        (0, {"part: wall": 1.5}, None, "set: part: wall=1.5"),
    ],
)
def test_what_cannot_be_is_refused(speaker, row, values, box, message):
    with pytest.raises(InputError, match=message):
        intervened(speaker, row, values, box)
