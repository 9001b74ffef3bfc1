"""The plan of the padding pattern: how pictures are cut out, its cells, and what is refused before anything runs."""

import math

import pytest

import whatwhere as ww
from small_classifier import small_classifier as network
from small_finished import finished
from whatwhere.errors import InputError
from whatwhere.hold.border import PatternAt
from whatwhere.hold.studies.pattern import Pattern
from whatwhere.hold.studies.pattern_plan import Cutting, cut_out, plain_row, row_of
from whatwhere.hold.studies.pattern_result import PatternResult

FEW = {"input_size": 8, "margin": 4, "pictures": 12, "paddings": ("circular",)}


def run(net, data, out=None, how=(), **options) -> PatternResult:
    return Pattern(net, data, **{**FEW, **options}).run(out, quiet=True, **dict(how))


def test_a_padding_that_the_network_cannot_have_is_a_note(data):
    resnet = ww.load_model("timm/resnet18", classes=10)
    found = run(resnet, data, sites=("conv1",), paddings=("none",), untrained=0, input_size=32, margin=16, pictures=4)
    assert {r.network for r in found.rows} == {"network"}
    assert any("Padding none is left out" in n for n in found.notes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"untrained": 2}, "untrained=2"),
        ({"untrained": -1}, "untrained=-1"),
        ({"paddings": ("mirror",)}, "paddings='mirror'"),
        ({"pictures": 0}, "pictures=0"),
        ({"pictures": 1}, "at least 2"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"input_size": 0}, "input_size=0"),
        ({"margin": 0}, "margin=0"),
        ({"margin": 5}, "margin=5.*multiple of 2"),
        ({"sites": ("9",)}, "sites='9'"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_runs(data, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        run(network(), data, tmp_path, **options)
    assert not (tmp_path / "cells").exists()


def test_pictures_are_larger_than_the_cut_out_by_a_margin_on_each_side():
    cutting, net = Cutting(8, 4, ("0",)), network()
    assert cutting.preprocessing(net).size == (16, 16)
    assert cutting.network(net).input_size == cut_out(net, 8) == (3, 8, 8)
    assert (net.input_size, net.preprocessing.size) == ((3, 16, 16), (16, 16))
    assert cutting.selection == ["0"]
    assert Cutting(8, 4).selection is None


def test_a_cell_is_a_network_the_given_one_first(data):
    plan = Pattern(network(), data, **FEW).planned()
    assert [c.label for c in plan.cells(finished())] == ["network", "untrained (seed 0)", "padding circular"]
    assert plan.shared()["settings"] == {"size": 8, "margin": 4, "pictures": 12, "sites": "None"}


def test_what_is_infinite_is_kept_as_none():
    found = PatternAt("a", 5, None, math.inf, [math.inf, 0.5])
    assert plain_row(found) == {"site": "a", "n": 5, "snr": None, "by_border": [None, 0.5]}
    row = row_of("untrained", plain_row(found))
    assert (row.network, row.site, row.n, row.snr, row.by_border) == ("untrained", "a", 5, None, (None, 0.5))


def test_a_fold_takes_the_networks_that_are_finished(data):
    plan = Pattern(network(), data, **FEW).planned()
    own, fresh, padded = plan.cells(finished())
    plain = {"rows": [{"site": "0", "n": 12, "snr": 0.5, "by_border": [0.25, 0.0]}]}
    found = plan.fold(finished((padded, plain), (own, plain), missing=[fresh]))
    assert [(r.network, r.snr) for r in found.rows] == [("network", 0.5), ("padding circular", 0.5)]
    assert found.notes == ("Not finished: untrained (seed 0).",)
    with pytest.raises(InputError, match="not measured yet"):
        plan.fold(finished((padded, plain), missing=[own]))
