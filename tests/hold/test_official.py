"""The published read-out, trained side by side, is what each would be alone."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from whatwhere.errors import InputError
from whatwhere.hold.features import Group, Tap
from whatwhere.hold.official import Official, OfficialReadOut, train_readouts
from whatwhere.hold.targets import stack, targets_of

GROUP = Group("all", (Tap("a", 2, (10, 10)), Tap("b", 1, (10, 10))))


def batches(n=3):
    g = torch.Generator().manual_seed(0)
    ramp = torch.linspace(0, 1, 10).expand(4, 1, 10, 10)
    return [
        {"a": torch.randn(4, 2, 10, 10, generator=g), "b": ramp + 0.1 * torch.randn(4, 1, 10, 10, generator=g)}
        for _ in range(n)
    ]


def published(layers, kernel):
    """The authors' read-outs of 3 channels, for one target: full width, batch norm and ReLU between the layers."""
    torch.manual_seed(0)
    convs = [nn.Conv2d(3, 1 if last else 3, kernel) for last in [False] * (layers - 1) + [True]]
    hidden = [m for conv in convs[:-1] for m in (conv, nn.BatchNorm2d(3), nn.ReLU())]
    return nn.Sequential(*hidden, convs[-1], nn.BatchNorm2d(1), nn.Sigmoid())


def by_hand(data, how, kernel, at=None):
    """The published read-out and SGD, for the target H alone, written out; the output is upsampled before the loss."""
    net = published(how.layers, kernel)
    parameters = list(net.parameters())
    velocity = [torch.zeros_like(p) for p in parameters]
    size = 10 - how.layers * (kernel - 1)
    goal = stack(targets_of(["H"]), at or size)
    for epoch in range(how.epochs):
        lr = how.lr if epoch < 10 else how.lr / 10
        for maps in data:
            out = net(torch.cat([maps["a"], maps["b"]], 1))
            if at:
                out = functional.interpolate(out, size=(at, at), mode="bilinear", align_corners=False)
            grads = torch.autograd.grad(((out - goal) ** 2).mean(), parameters)
            for p, v, g in zip(parameters, velocity, grads, strict=True):
                v.mul_(how.momentum).add_(g + how.weight_decay * p.detach())
                p.data.sub_(lr * v)
    return net.eval()


@pytest.mark.parametrize("at", [None, 40])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_it_is_the_published_read_out_and_sgd(layers, kernel, at):
    how, data = Official(epochs=12, layers=layers), batches()
    readout = OfficialReadOut(GROUP, targets_of(["H"]), kernel=kernel, size=10, at=at, how=how)
    train_readouts([readout], lambda epoch: data)
    net = by_hand(data, how, kernel, at)
    for seen, expected in zip(readout.layers, net, strict=True):
        if isinstance(expected, nn.Conv2d):
            torch.testing.assert_close(seen.weight, expected.weight)
        if isinstance(expected, nn.BatchNorm2d):
            torch.testing.assert_close(seen.running_mean, expected.running_mean)
    x = torch.cat([data[0]["a"], data[0]["b"]], 1)
    torch.testing.assert_close(readout.predict(data[0]), net(x))


def test_at_the_outputs_own_size_nothing_is_upsampled():
    how = Official(upsample=False)
    readout = OfficialReadOut(GROUP, targets_of(["H"]), kernel=3, size=10, at=40, how=how)
    assert readout.goals.shape[-1] == 8
    assert OfficialReadOut(GROUP, targets_of(["H"]), kernel=3, size=10, at=40).goals.shape[-1] == 40


def test_hidden_channels_may_be_fewer():
    readout = OfficialReadOut(GROUP, targets_of(["H", "G"]), kernel=3, size=10, how=Official(layers=2, hidden=5))
    assert [m.weight.shape for m in readout.layers if isinstance(m, nn.Conv2d)] == [(10, 3, 3, 3), (2, 5, 3, 3)]


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
    [
        ({"layers": 4}, "layers=4"),
        ({"head": "softmax"}, "head"),
        ({"batch_size": 1}, "batch"),
        ({"hidden": 0}, "hidden=0"),
        ({"lr": 0.0}, "lr=0.0"),
        ({"lr": float("nan")}, "lr=nan"),
    ],
)
def test_wrong_settings_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Official(**options)


def test_divergence_is_an_error():
    readout = OfficialReadOut(GROUP, targets_of(["H"]), kernel=1, size=10, how=Official(head="linear", lr=1e12))
    with pytest.raises(InputError, match="diverged"):
        train_readouts([readout], lambda epoch: batches())
