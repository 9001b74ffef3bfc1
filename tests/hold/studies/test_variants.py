"""The given network and its controls."""

import pytest
import torch
from torch import nn

import whatwhere as ww
from whatwhere.errors import InputError
from whatwhere.hold.studies.variants import Variant, placed, possible, sized, variants_of


def test_variants_begin_with_the_network_itself():
    assert variants_of(1, ["zeros"]) == [Variant(), Variant("untrained"), Variant("padding", "zeros")]


def small(bias=0.0):
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1))
    return ww.Network(module.eval(), ww.Preprocessing(size=(8, 8)), "small", (3, 8, 8))


def test_what_the_network_cannot_have_is_a_note_or_an_error():
    resnet = ww.load_model("timm/resnet18", classes=10)
    asked = variants_of(1, ["circular", "none"])
    found, notes = possible(asked, resnet, (3, 16, 16))
    assert found == asked[:-1]
    assert len(notes) == 1
    assert notes[0].startswith("Padding none is left out: mode='none': the network does not run")
    with pytest.raises(InputError, match="none"):
        possible(asked, resnet, (3, 16, 16), strict=True)


def test_the_same_network_again_is_a_note_however_strict():
    found, notes = possible(variants_of(0, ["zeros", "reflect"]), small(), (3, 8, 8), strict=True)
    assert found == [Variant(), Variant("padding", "reflect")]
    assert ["same network again" in n for n in notes] == [True]


def test_building_leaves_the_given_network_alone():
    net = small()
    before = {k: v.clone() for k, v in net.module.state_dict().items()}
    for variant in variants_of(2, ["circular"]):
        built = variant.build(net, (3, 8, 8))
        assert (built is net) == (variant == Variant())
    assert all(torch.equal(v, before[k]) for k, v in net.module.state_dict().items())
    assert net.module[0].padding_mode == "zeros"


def test_another_input_size_is_part_of_the_network_that_comes_back():
    net = small()
    larger = sized(net, 20)
    assert (larger.input_size, larger.preprocessing.size) == ((3, 20, 20), (20, 20))
    assert (net.input_size, net.preprocessing.size) == ((3, 8, 8), (8, 8))
    assert sized(net, None) is net


def test_a_network_is_put_back_where_it_was_after_an_error_too():
    net = small()

    def measured():
        with placed(net, "meta") as there:
            assert there.module[0].weight.device.type == "meta"
            raise RuntimeError("stop")

    # What went to the meta device cannot come back with its values; where a module is asked to go is what counts here.
    moved = []
    to = net.module.to
    net.module.to = lambda device: moved.append(str(device)) or (to(device) if device == "meta" else net.module)
    with pytest.raises(RuntimeError, match="stop"):
        measured()
    assert moved == ["meta", "cpu"]
