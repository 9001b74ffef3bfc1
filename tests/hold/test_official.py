"""The published read-out, trained side by side, is what each would be alone."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from whatwhere.errors import InputError
from whatwhere.hold.features import Tap
from whatwhere.hold.official import Official, OfficialReadOut, train_readouts
from whatwhere.hold.ridge import Group
from whatwhere.hold.targets import stack, targets_of

GROUP = Group("all", (Tap("a", 2, (10, 10)), Tap("b", 1, (10, 10))))


def batches(n=3):
    g = torch.Generator().manual_seed(0)
    ramp = torch.linspace(0, 1, 10).expand(4, 1, 10, 10)
    return [
        {"a": torch.randn(4, 2, 10, 10, generator=g), "b": ramp + 0.1 * torch.randn(4, 1, 10, 10, generator=g)}
        for _ in range(n)
    ]


def by_hand(data, how, kernel):
    """Conv, batch norm, sigmoid, SGD, for the target H alone, written out."""
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 1, kernel), nn.BatchNorm2d(1)
    parameters = [*conv.parameters(), *norm.parameters()]
    velocity = [torch.zeros_like(p) for p in parameters]
    goal = stack(targets_of(["H"]), 10 - kernel + 1)
    for epoch in range(how.epochs):
        lr = how.lr if epoch < 10 else how.lr / 10
        for maps in data:
            out = torch.sigmoid(norm(conv(torch.cat([maps["a"], maps["b"]], 1))))
            grads = torch.autograd.grad(((out - goal) ** 2).mean(), parameters)
            for p, v, g in zip(parameters, velocity, grads, strict=True):
                v.mul_(how.momentum).add_(g + how.weight_decay * p.detach())
                p.data.sub_(lr * v)
    return conv, norm


@pytest.mark.parametrize("kernel", [1, 3])
def test_it_is_convolution_batch_norm_sigmoid_and_sgd(kernel):
    how, data = Official(epochs=12), batches()
    readout = OfficialReadOut(GROUP, targets_of(["H"]), kernel=kernel, size=10, how=how)
    train_readouts([readout], lambda epoch: data)
    conv, norm = by_hand(data, how, kernel)
    torch.testing.assert_close(readout.layers[0].weight, conv.weight)
    torch.testing.assert_close(readout.layers[1].running_mean, norm.running_mean)
    norm.eval()
    x = torch.cat([data[0]["a"], data[0]["b"]], 1)
    torch.testing.assert_close(readout.predict(data[0]), torch.sigmoid(norm(conv(x))))


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_targets_side_by_side_do_not_touch_each_other(layers):
    data, how = batches(), Official(epochs=3, layers=layers)
    both = OfficialReadOut(GROUP, targets_of(["H", "G"]), kernel=3, size=10, how=how)
    other = OfficialReadOut(GROUP, targets_of(["H", "V"]), kernel=3, size=10, how=how)
    train_readouts([both, other], lambda epoch: data)
    torch.testing.assert_close(both.predict(data[0])[:, 0], other.predict(data[0])[:, 0])
    assert both.predict(data[0]).shape[-1] == 10 - 2 * layers


def test_without_its_head_it_learns_a_ramp_it_is_shown():
    data = batches()
    readout = OfficialReadOut(GROUP, targets_of(["H"]), kernel=1, size=10, how=Official(epochs=60, head="linear"))
    train_readouts([readout], lambda epoch: data)
    predicted = readout.predict(data[0])
    assert float(functional.mse_loss(predicted, readout.goals.expand_as(predicted))) < 0.02


@pytest.mark.parametrize(
    ("options", "message"),
    [({"layers": 4}, "layers=4"), ({"head": "softmax"}, "head"), ({"batch_size": 1}, "batch")],
)
def test_wrong_settings_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Official(**options)


def test_divergence_is_an_error():
    readout = OfficialReadOut(GROUP, targets_of(["H"]), kernel=1, size=10, how=Official(head="linear", lr=1e12))
    with pytest.raises(InputError, match="diverged"):
        train_readouts([readout], lambda epoch: batches())
