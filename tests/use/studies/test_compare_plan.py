"""The plan of the comparison: which networks, which cells, and a row by hand."""

import numpy as np
import pytest
import torch

import whatwhere as ww
from small_finished import finished
from whatwhere.errors import InputError
from whatwhere.intervals import binomial
from whatwhere.lab.packed import pack
from whatwhere.use import Compare
from whatwhere.use.insert import maker
from whatwhere.use.studies import compare_plan as planning
from whatwhere.use.studies.compare_plan import build, checked_methods, row_of
from whatwhere.use.studies.wider import equal_width

RECIPE = ww.Recipe(epochs=1, batch_size=64, lr=0.02, crop_padding=0, flip=False)


def count(net):
    return sum(p.numel() for p in net.module.parameters())


def test_every_method_starts_from_the_same_weights():
    config = {"model": "cifar/resnet20", "options": {"classes": 10}, "seed": 3, "method": "none", "settings": {}}
    plain = build(config).module.state_dict()
    gated = build({**config, "method": "ms_sar"}).module.state_dict()
    shared = [k for k in plain if k in gated]
    assert len(shared) > 40
    assert all((plain[k] == gated[k]).all() for k in shared)


def test_the_wider_cell_is_a_plain_network_and_says_its_width():
    shared = {"model": "cifar/bagnet4", "options": {"classes": 10, "width": 0.5}, "recipe": {}}
    cell = planning.cell_of("wider", 1, shared)
    assert cell.config["options"] == {"classes": 10, "width": equal_width("cifar/bagnet4", 10, 0.5)}
    assert shared["options"]["width"] == 0.5
    net = build(cell.config)
    assert not hasattr(net.module, "surgery")
    assert count(net) > count(ww.load_model("cifar/bagnet4", classes=10, width=0.5))


def test_keys_of_cells_stay_what_they_were():
    """Folders of earlier runs go on only if the keys of their cells do not change."""
    shared = {"model": "cifar/resnet20", "options": {"classes": 10, "width": 1.0}, "recipe": RECIPE.to_dict()}
    shared |= {"data": {"train": "a", "test": "b"}}
    keys = [planning.cell_of(name, 0, shared).key for name in ("none", "se", "ms_sar-4")]
    assert keys == ["92c3e064fe4f7730", "9ee6b7aa870a99bc", "2c440249d530c260"]


@pytest.mark.parametrize("name", planning.NAMED)
def test_every_name_makes_a_module_with_its_settings(name):
    method, settings = planning.NAMED[name]
    module = maker(method, settings)(64)
    assert all(getattr(module, key) == value for key, value in settings.items())


@pytest.mark.parametrize("method", ["se", "ms_sar"])
def test_the_identity_variants_start_as_the_plain_network(method):
    shared = {"model": "cifar/resnet20", "options": {"classes": 10, "width": 0.5}, "recipe": {}}
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain, identity, half = (
            build(planning.cell_of(name, 0, shared).config).module.eval()(x)
            for name in ("none", f"{method}-identity", method)
        )
    assert torch.equal(identity, plain)
    assert not torch.allclose(half, plain)


def result(right, parameters=100, flops=200):
    return {"hits": pack(np.array(right, dtype=np.uint8)), "parameters": parameters, "flops": flops}


def test_the_plain_network_comes_first_and_each_method_once():
    assert checked_methods(("se", "none", "se", "ms_sar-2"), "cifar/resnet20") == ("none", "se", "ms_sar-2")
    with pytest.raises(InputError, match="Did you mean 'ms_sar'"):
        checked_methods(("mssar",), "cifar/resnet20")
    with pytest.raises(InputError, match="needs a width option"):
        checked_methods(("wider",), "timm/resnet18")


def test_a_gain_is_paired_picture_by_picture():
    """Of five pictures the method is right in 0 1 2, the plain network in 1 3: two won, one lost."""
    found = {("none", 0): result([0, 1, 0, 1, 0]), ("se", 0): result([1, 1, 1, 0, 0])}
    row = row_of("se", [0], found)
    assert row.values == {"accuracy": (0.6,), "above none": (pytest.approx(0.2),)}
    e, gain = row.measured["accuracy"], row.measured["above none"]
    assert (e.low, e.high) == binomial(3, 5)
    assert (gain.mean, gain.n) == (pytest.approx(0.2), 5)
    assert "above none" not in row_of("none", [0], found).measured


def test_a_fold_has_what_earlier_calls_finished_and_counts_cost_from_the_plain_network():
    plan = Compare("cifar/resnet20", "digits", methods=("se",), seeds=(0,), recipe=RECIPE).planned()
    pairs = [(plan.cell("none", 0), result([1, 0])), (plan.cell("eca", 0), result([1, 1], 110, 201))]
    found = plan.fold(finished(*pairs))
    assert [r.name for r in found.rows] == ["none", "eca"]
    assert found.cost["eca"] == {"parameters %": pytest.approx(10), "flops %": pytest.approx(0.5)}
    assert found.notes[-1] == "Not finished: se, seed 0."
    with pytest.raises(InputError, match="no cell of the plain network"):
        plan.fold(finished(pairs[1]))


def test_seeds_without_a_plain_network_are_left_out_of_the_rows():
    plan = Compare("cifar/resnet20", "digits", methods=("se",), seeds=(0, 1), recipe=RECIPE).planned()
    pairs = [(plan.cell("none", 1), result([1, 0])), *((plan.cell("se", s), result([1, 1])) for s in (0, 1))]
    found = plan.fold(finished(*pairs))
    assert found["se"].values["above none"] == (0.5,)
