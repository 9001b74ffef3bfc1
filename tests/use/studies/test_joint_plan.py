"""The plan of the joint study: the depths, its cells, and what is refused before anything is trained."""

import numpy as np
import pytest

import whatwhere as ww
from small_joint import SMALL, joint
from whatwhere.errors import InputError
from whatwhere.lab.cells import Store
from whatwhere.lab.packed import pack
from whatwhere.lab.study import Finished
from whatwhere.use import Joint
from whatwhere.use.studies.joint_plan import depths


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"targets": ["Q"]}, "targets='Q'"),
        ({"sites": ["layer9"]}, "layer9"),
        ({"sites": ["rgb"]}, "raw input alone"),
        ({"limit": 0}, "limit=0"),
        ({"methods": ["mssar"]}, "Did you mean 'ms_sar'"),
        ({"how": {"fold_only": True}}, "leave fold_only out"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_trained(wrong, message, tmp_path):
    with pytest.raises(InputError, match=message):
        joint(tmp_path, **wrong)
    assert not (tmp_path / "weights").exists()


def test_a_network_without_blocks_is_refused(tmp_path):
    with pytest.raises(InputError, match="no residual and no dense block"):
        joint(tmp_path, "cifar/vgg11", sites=None)


@pytest.mark.parametrize(
    ("name", "first", "last", "count"),
    [
        ("resnet20", "layers.0.0", "layers.2.2", 9),
        ("resnet56", "layers.0.0", "layers.2.8", 12),
        ("densenet40", "features.denseblock1", "features.denseblock3", 3),
    ],
)
def test_depths_that_are_chosen_are_in_the_recalibrated_network_too(name, first, last, count):
    net = ww.load_model(f"cifar/{name}", classes=10, width=0.5)
    chosen = depths(net, ww.sites(net))
    assert (chosen[0], chosen[-1], len(set(chosen))) == (first, last, count)
    assert set(chosen) <= {s.name for s in ww.sites(ww.use.recalibrate(net, "ms_sar"))}


def test_cells_are_the_networks_that_the_comparison_has_trained(tmp_path):
    plan = Joint("cifar/resnet20", "digits", **SMALL).planned()
    compared = plan.comparison
    store = Store(tmp_path, {"study": "recalibration", **compared.shared()})
    hits = {"hits": pack(np.ones(4, dtype=np.uint8))}
    for name, seed in (("ms_sar", 0), ("none", 0), ("se", 5)):
        store.save(compared.cell(name, seed), hits)
    there = [(c.config["network"]["name"], c.config["network"]["seed"]) for c in plan.cells_in(tmp_path)]
    assert there == [("none", 0), ("ms_sar", 0), ("se", 5)]
    with pytest.raises(InputError, match=r"none, seed 0, are gone.*weights_folder"):
        plan.check(ww.Run(tmp_path))


def test_a_fold_needs_the_plain_network(tmp_path):
    plan = Joint("cifar/resnet20", "digits", **SMALL).planned()
    done = Finished(Store(tmp_path / "joint", plan.stored()))
    with pytest.raises(InputError, match="no plain network is measured yet"):
        plan.fold(done)
