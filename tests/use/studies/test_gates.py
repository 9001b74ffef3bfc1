"""Gates over pictures, against gates taken one by one."""

import numpy as np
import pytest
import torch

import whatwhere as ww
from whatwhere.errors import InputError
from whatwhere.use import MSSAR, gates, plot_gates


def test_means_and_spreads_are_those_of_single_pictures():
    data = ww.load_data("digits")
    net = ww.use.recalibrate(ww.load_model("cifar/resnet20", classes=10), "ms_sar", scales=(1, 2))
    found = gates(net, data, pictures=10, batch_size=4)
    assert len(found) == 9
    name, module = next((n, m) for n, m in net.module.named_modules() if isinstance(m, MSSAR))
    module.keep_gate = True
    single = []
    with torch.no_grad():
        for images, _ in data.test.take(10).batches(1, geometry=net.preprocessing):
            net.module(net.preprocessing.normalise(images))
            single.append(module.gate[0].numpy())
    np.testing.assert_allclose(found[name].mean, np.mean(single, 0), rtol=1e-5)
    np.testing.assert_allclose(found[name].spread, np.std(single, 0), atol=1e-5)
    assert found[name].asymmetry == pytest.approx(np.mean(single, 0).std((0, 1)).mean(), rel=1e-4)
    assert len(plot_gates(found).axes) == 9 * 5


def test_the_network_is_put_back():
    net = ww.use.recalibrate(ww.load_model("cifar/resnet20", classes=10), "se")
    found = gates(net, "digits", pictures=3)
    modules = [m for m in net.module.modules() if isinstance(m, MSSAR)]
    assert not any(m.keep_gate or m.gate.numel() for m in modules)
    assert all(g.asymmetry == 0 for g in found.values())  # one cell: nothing to differ


def test_a_network_without_gates_is_refused():
    with pytest.raises(InputError, match="recalibrate"):
        gates(ww.load_model("cifar/resnet20", classes=10), "digits")


def test_counts_are_refused_by_their_names(digits):
    net = ww.use.recalibrate(ww.load_model("cifar/resnet20", width=0.25, classes=10), "ms_sar")
    for option in ("pictures", "batch_size"):
        with pytest.raises(InputError, match=f"{option}=0: give a whole number of at least 1"):
            ww.use.gates(net, digits, **{option: 0})
