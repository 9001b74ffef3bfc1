"""Where the network of a cut can be collapsed: there, or where nothing goes round it."""

import pytest

import whatwhere as ww
from small_nets import HAND, SIZE, drawn
from whatwhere.errors import InputError
from whatwhere.graph.flow import flow_of
from whatwhere.graph.mixing import Places
from whatwhere.need.studies.collapsible import collapsible, pooled_sites
from whatwhere.site import Sites


@pytest.fixture(scope="module")
def resnet() -> ww.Network:
    return ww.load_model("cifar/resnet20", classes=10, width=0.125)


@pytest.fixture(scope="module")
def table(resnet) -> Sites:
    return ww.sites(resnet)


def sites(table: Sites, *names: str) -> list:
    by_name = {s.name: s for s in table}
    return [by_name[n] for n in names]


def test_inside_of_a_block_the_whole_block_is_collapsed(resnet, table):
    block, inside = sites(table, "layers.2.1", "layers.2.1.conv2")
    places = Places(flow_of(resnet), table)
    assert collapsible(places, block) == "layers.2.1"
    assert collapsible(places, inside) == "layers.2.1"
    with pytest.raises(InputError, match="flows around"):
        ww.need.collapse(resnet, "layers.2.1.conv2")


def test_two_cuts_of_one_place_are_pooled_once(resnet, table):
    cuts = sites(table, "layers.2.1.conv1", "layers.2.1.conv2", "layers.2.2")
    assert pooled_sites(resnet, table, cuts) == (["layers.2.1", "layers.2.2"], [])


def test_what_is_in_no_such_module_is_left_out_with_a_note():
    net = drawn(HAND["shortcut"])
    table = ww.sites(net, input_size=SIZE)
    cuts = sites(table, "conv2", "conv3")
    note = "GAP+FC is left out at conv3: spatial information flows around it."
    assert pooled_sites(net, table, cuts) == (["conv2"], [note])
