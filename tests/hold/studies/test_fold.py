"""From scores of pictures to rows: by hand, from cells that are written out."""

import base64

import numpy as np
import pytest
import torch

from small_classifier import small_classifier as network
from whatwhere.data import Data, Split
from whatwhere.data.sources import Memory
from whatwhere.hold.studies import fold
from whatwhere.hold.studies.fold import folded_rows, gallery_of
from whatwhere.hold.studies.pictures import pictures_of
from whatwhere.hold.studies.reading import Reading
from whatwhere.hold.studies.readout_result import THUMBNAIL
from whatwhere.hold.studies.variants import Variant
from whatwhere.hold.targets import targets_of
from whatwhere.intervals import student
from whatwhere.lab.packed import pack_maps, pack_scores, unpack_maps


def test_the_difference_from_untrained_networks_varies_with_the_networks():
    shared = [{"spc": pack_scores([m - 0.1, m, m + 0.1, m])} for m in (0.2, 0.6, 0.4)]
    above = fold._above(np.array([0.5, 0.6, 0.7, 0.6]), shared)
    assert above.mean == pytest.approx(0.2)
    # The pictures do not vary, the three networks do: Student's t over them.
    assert above.half_width == pytest.approx(student(2) * 0.2 / 3**0.5)
    assert fold._above(np.array([0.5, 0.6]), shared[:1]) is None
    assert fold._above(np.zeros(4), [{"spc": pack_scores([0.0] * 4)}] * 2).half_width == 0


def pictures() -> Data:
    """Ten of 16 x 16 pixels: the row number, and white in the left half."""
    images = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1).repeat(1, 3, 16, 16)
    images[..., :8] = 255
    split = Split("test", Memory(images), torch.arange(10) % 2, ["a", "b"])
    return Data("few", {"train": split, "test": split})


def reading() -> Reading:
    chosen = pictures_of(pictures(), None, 5, 4, 0)
    return Reading(chosen, ("1",), tuple(targets_of(["H"])), (1,), ("ridge",), size=14)


def scored(spc, mae=(0.2, 0.2, 0.2, 0.2), shuffled=False, group="1", inputs="pictures", constant=0):
    return {
        "readout": "ridge",
        "group": group,
        "kernel": 1,
        "target": "H",
        "inputs": inputs,
        "shuffled": shuffled,
        "depth_share": 0.5,
        "spc": pack_scores(spc),
        "mae": pack_scores(mae),
        "constant": constant,
        "penalty": 0.01,
        "size": 16,
    }


def cell(*rows):
    return {"rows": list(rows), "maps": {}, "notes": []}


CELLS = [
    (Variant(), cell(scored([0.5, 0.75, 1.0, 0.75]), scored([0.0, 0.25, 0.0, -0.25], shuffled=True))),
    (Variant("untrained", seed=0), cell(scored([0.5, 0.5, 0.5, 0.5], constant=1))),
    (Variant("untrained", seed=1), cell(scored([0.0, 0.5, 0.0, 0.5], constant=2))),
    (Variant("padding", "circular"), cell(scored([0.25] * 4))),
]


def test_a_row_for_each_network_and_one_for_all_untrained_ones():
    rows = folded_rows(CELLS, reading())
    assert [r.network for r in rows] == ["network", "shuffled positions", "untrained", "padding circular"]
    assert [r.spc.mean for r in rows] == pytest.approx([0.75, 0.0, 0.375, 0.25])
    assert [r.spc.repeats for r in rows] == [1, 1, 2, 1]
    assert [r.constant for r in rows] == [0, 0, 3, 0]
    assert [r.penalty for r in rows] == [0.01, 0.01, None, 0.01]
    assert {(r.site, r.depth_share, r.size) for r in rows} == {("1", 0.5, 16)}


def test_intervals_are_over_pictures_of_one_network_and_over_networks_of_several():
    own, _, fresh, _ = folded_rows(CELLS, reading())
    over_pictures = student(3) * np.std([0.5, 0.75, 1.0, 0.75], ddof=1) / 4**0.5
    assert own.spc.low == pytest.approx(0.75 - over_pictures)
    over_networks = student(1) * np.std([0.5, 0.25], ddof=1) / 2**0.5
    assert (fresh.spc.low, fresh.spc.high) == (-1.0, 1.0)  # which 12.7 standard errors leave
    assert over_networks > 1.375


def test_a_networks_lead_is_over_the_mean_of_its_untrained_twins():
    own, shuffled, fresh, padded = folded_rows(CELLS, reading())
    assert own.above_untrained.mean == pytest.approx(0.75 - 0.375)
    assert shuffled.above_untrained is fresh.above_untrained is padded.above_untrained is None
    (alone, *_) = folded_rows(CELLS[:2], reading())
    assert alone.above_untrained is None  # a single one says nothing of how they differ


def test_the_raw_input_and_pictures_without_content_have_no_lead():
    raw = [(v, cell(scored([0.5] * 4, group="rgb"), scored([0.5], [0.2], inputs="black"))) for v, _ in CELLS[:3]]
    assert [r.above_untrained for r in folded_rows(raw, reading())] == [None] * 4


def test_the_best_constant_costs_a_quarter_of_a_ramp():
    """Of 0, 1/15, ..., 1 the mean distance to the median is 4/15 (torch's median is the lower one of two)."""
    (row, *_) = folded_rows(CELLS[3:], reading())
    assert row.baseline == pytest.approx(np.abs(np.arange(16) / 15 - 7 / 15).mean())


def test_a_gallery_shows_the_networks_maps_and_an_untrained_ones_beside_the_targets():
    maps = [{"site": "1", "predicted": pack_maps(np.full((2, 1, 3, 3), i))} for i in range(3)]
    cells = [(v, {**c, "maps": m}) for (v, c), m in zip(CELLS, maps, strict=False)]
    read = reading()
    found = gallery_of(cells, read, network())
    assert (found["site"], found["names"]) == ("1", ["H"])
    assert {k: unpack_maps(v).max() for k, v in found["predicted"].items()} == {"network": 0, "untrained": 1}
    assert unpack_maps(found["targets"]).shape == (1, 14, 14)
    assert gallery_of([(v, {**c, "maps": {}}) for v, c in CELLS], read, network()) == {}
    (first, _) = found["pictures"]
    pixels = np.frombuffer(base64.b64decode(first), np.uint8).reshape(THUMBNAIL, THUMBNAIL, 3)
    assert (pixels[:, : THUMBNAIL // 2] == 255).all()
    assert (pixels[:, THUMBNAIL // 2 :] == read.pictures.test.source.rows[0]).all()
