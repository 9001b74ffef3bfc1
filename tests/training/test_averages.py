"""The running average of weights, by hand, and in a training that is interrupted."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from whatwhere.network import Network
from whatwhere.training.averages import Averages
from whatwhere.training.evaluate import evaluate
from whatwhere.training.fit import fit
from whatwhere.training.recipes import Recipe

RECIPE = Recipe(epochs=3, batch_size=5, lr=0.05, crop_padding=1, ema=0.7)


def test_the_average_is_its_formula() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    g = torch.Generator().manual_seed(0)
    averages, by_hand = Averages(net, 0.5), {k: v.double().clone() for k, v in net.state_dict().items()}
    for step in range(1, 30):
        with torch.no_grad():
            for v in net.state_dict().values():
                v.add_(torch.randn(v.shape, generator=g).to(v.dtype) if v.is_floating_point() else 1)
        averages.update(net, step)
        decay = min(0.5, step / (step + 9))
        for k, v in net.state_dict().items():
            by_hand[k] += (1 - decay) * (v.double() - by_hand[k])
    own = {k: v.clone() for k, v in net.state_dict().items()}
    with averages.shown(net):
        for k, v in net.state_dict().items():
            expected = by_hand[k] if v.is_floating_point() else own[k].double()
            assert torch.allclose(v.double(), expected, atol=1e-5), k
        assert not torch.equal(net.state_dict()["0.weight"], own["0.weight"])
    assert all(torch.equal(v, own[k]) for k, v in net.state_dict().items())
    averages.put_into(net)
    assert torch.allclose(net.state_dict()["1.running_mean"].double(), by_hand["1.running_mean"], atol=1e-5)


def test_own_weights_come_back_after_an_error() -> None:
    net = nn.Linear(2, 2)
    averages, own = Averages(net, 0.5), net.weight.detach().clone()
    net.weight.data += 1
    with pytest.raises(ZeroDivisionError), averages.shown(net):
        assert 1 / int(not torch.equal(net.weight, own))
    assert torch.equal(net.weight, own + 1)


def test_a_training_keeps_and_tests_the_averages_also_after_a_kill(pictures, small_net, tmp_path: Path) -> None:
    def run(file: Path | None, stop: int | None = None) -> tuple[dict, list, Network]:
        def on_step(done: int, total: int) -> None:
            if done == stop:
                raise KeyboardInterrupt

        net = small_net()
        history = fit(net, pictures(), RECIPE, device="cpu", file=file, test=pictures(9), on_step=on_step)
        records = [{k: v for k, v in e.items() if k != "seconds"} for e in history.epochs]
        return {k: v.clone() for k, v in net.module.state_dict().items()}, records, net

    expected, records, net = run(None)
    assert records[-1]["test_accuracy"] == evaluate(net, pictures(9)).accuracy
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "c.pt", stop=6)
    found, resumed, _ = run(tmp_path / "c.pt")
    assert resumed == records
    assert all(torch.equal(found[k], v) for k, v in expected.items())
    again, _, _ = run(tmp_path / "c.pt")  # complete: the averages are put in place again
    assert all(torch.equal(again[k], v) for k, v in expected.items())
    plain = small_net()
    losses = [e["loss"] for e in fit(plain, pictures(), replace(RECIPE, ema=0.0), device="cpu").epochs]
    assert losses == [e["loss"] for e in records]  # the weights that are trained are the same
    assert not torch.equal(plain.module.state_dict()["0.weight"], expected["0.weight"])
