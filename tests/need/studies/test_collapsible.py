"""Where the network of a cut can be collapsed: there, or where no shortcut bypasses it."""

import pytest

import whatwhere as ww
from whatwhere.errors import InputError
from whatwhere.need.studies import collapsible as module
from whatwhere.need.studies.collapsible import collapsible, pooled_sites


@pytest.fixture(scope="module")
def resnet() -> ww.Network:
    return ww.load_model("cifar/resnet20", classes=10, width=0.125)


def sites(net: ww.Network, *names: str) -> list:
    table = {s.name: s for s in ww.sites(net)}
    return [table[n] for n in names]


def test_inside_of_a_block_the_whole_block_is_collapsed(resnet):
    block, inside = sites(resnet, "layers.2.1", "layers.2.1.conv2")
    assert collapsible(resnet, block) == "layers.2.1"
    assert collapsible(resnet, inside) == "layers.2.1"
    with pytest.raises(InputError, match="flows around"):
        ww.need.collapse(resnet, "layers.2.1.conv2")


def test_two_cuts_of_one_place_are_pooled_once(resnet):
    cuts = sites(resnet, "layers.2.1.conv1", "layers.2.1.conv2", "layers.2.2")
    assert pooled_sites(resnet, cuts) == (["layers.2.1", "layers.2.2"], [])


def test_a_reason_is_noted_once_and_is_that_of_the_cut_itself(resnet, monkeypatch):
    def refuses(net, site):
        raise InputError("a shortcut" if "." in site else "the outermost")

    monkeypatch.setattr(module, "collapse", refuses)
    cuts = sites(resnet, "layers.2.1.conv1", "layers.2.1.conv2", "conv1")
    assert pooled_sites(resnet, cuts) == (
        [],
        [
            "GAP+FC is left out at layers.2.1.conv1: a shortcut",
            "GAP+FC is left out at conv1: the outermost",
        ],
    )
