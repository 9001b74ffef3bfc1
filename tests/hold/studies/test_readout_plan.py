"""The plan of the read-out: its cells, its record, and what is refused before anything runs."""

import pytest
import torch
from torch import nn

import whatwhere as ww
from small_classifier import small_classifier as network
from small_finished import finished
from small_readout import FEW, position
from whatwhere.data import Data
from whatwhere.errors import InputError
from whatwhere.hold.official import Official
from whatwhere.hold.studies.readout import Readout
from whatwhere.hold.studies.readout_plan import check_choices, check_sizes, shape_of
from whatwhere.hold.studies.readout_result import SHUFFLED


def test_a_padding_that_the_network_cannot_have_is_an_error_if_it_was_asked_for(data):
    resnet = ww.load_model("timm/resnet18", classes=10)
    few = {**FEW, "sites": ["layer1"], "targets": ["H"]}
    with pytest.raises(InputError, match="none"):
        position(resnet, data, untrained=0, paddings=["none"], input_size=16, **few)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"readouts": ["lasso"]}, "readouts='lasso'"),
        ({"blanks": ["grey"]}, "blanks='grey'"),
        ({"readouts": []}, "readouts is empty"),
        ({"target_range": "0..2"}, "target_range='0..2'"),
        ({"readout_padding": -1}, "readout_padding=-1"),
        ({"kernels": []}, "kernels"),
        ({"kernels": [41]}, "smaller kernel"),
        ({"untrained": -1}, "untrained=-1"),
        ({"paddings": ["mirror"]}, "paddings='mirror'"),
        ({"pictures": 1}, "pictures=1"),
        ({"test_pictures": 1}, "test_pictures=1"),
        ({"input_size": 0}, "input_size=0"),
    ],
)
def test_wrong_arguments_say_what_to_give(data, options, message):
    with pytest.raises(InputError, match=message):
        position(network(), data, **{**FEW, **options})


def test_testing_on_the_fitting_pictures_is_noted(data):
    one = Data("one", {"test": data.test})
    held = position(network(), one, test_data=one, untrained=0, paddings=[], **FEW)
    assert any("too high" in n for n in held.notes)


def test_paddings_that_the_network_cannot_have_never_become_cells(data, tmp_path):
    """Maps of 1 x 1 cannot be padded by reflection or wrapped around."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 8, stride=8), nn.Conv2d(4, 4, 5, padding=2), nn.Flatten(), nn.Linear(16, 10))
    net = ww.Network(module.eval(), ww.Preprocessing(size=(16, 16)), "deep", (3, 16, 16))
    held = position(net, data, tmp_path, untrained=0, **{**FEW, "sites": ("0",)})
    assert held.controls == [SHUFFLED, "padding circular", "padding replicate"]
    assert sum(n.startswith("Padding reflect is left out") for n in held.notes) == 1
    assert len(list((tmp_path / "cells").iterdir())) == 3


def test_layers_is_an_option_of_the_official_readout(data):
    how = {**FEW, "readouts": ["official"], "untrained": 0, "paddings": [], "blanks": []}
    deep = Readout(network(), data, layers=2, **how).planned().shared()["plan"]["official"]
    assert deep == {**Official().__dict__, "layers": 2}
    with pytest.raises(InputError, match="layers=4"):
        position(network(), data, layers=4, **how)


def test_a_cell_is_a_network_the_given_one_first(data):
    plan = Readout(network(), data, untrained=2, paddings=["circular"], **FEW).planned()
    assert [c.label for c in plan.cells(finished())] == [
        "network",
        "untrained (seed 0)",
        "untrained (seed 1)",
        "padding circular",
    ]
    assert plan.shared()["plan"]["sites"] == ("1", "4")
    assert {n: p["pictures"] for n, p in plan.shared()["pictures"].items()} == {"fit": 16, "held out": 4, "test": 6}


def test_prepared_tensors_keep_their_size(data):
    plan = Readout(network(), data, **FEW).planned()
    chosen = plan.reading.pictures
    assert shape_of(chosen, plan.net, None) == shape_of(chosen, plan.net, 16) == (3, 16, 16)
    with pytest.raises(InputError, match=r"input_size=20: these pictures are prepared tensors of \(3, 16, 16\)"):
        shape_of(chosen, plan.net, 20)


def test_choices_and_sizes_that_can_be_pass():
    check_choices(["ridge", "official"], ["black"], "-1..1")
    check_sizes([1, 3, 13], 14, 0)
    with pytest.raises(InputError, match="smaller kernel"):
        check_sizes([15], 14, 0)
    check_sizes([15], 14, 1)


def test_a_fold_needs_the_given_network(data):
    plan = Readout(network(), data, untrained=1, paddings=[], **FEW).planned()
    (_, fresh) = plan.cells(finished())
    with pytest.raises(InputError, match="not measured yet"):
        plan.fold(finished((fresh, {"rows": [], "maps": {}, "notes": []})))
