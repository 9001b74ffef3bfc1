from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import whatwhere as ww
from small_nets import HAND, SIZE, drawn
from whatwhere.errors import InputError

X = torch.randn(3, *SIZE, generator=torch.Generator().manual_seed(1))


class Options(nn.Module):
    """Every option of F.conv2d, by position and by name; one parameter twice; one kernel that is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.randn(6, 3, 3, 3)), nn.Parameter(torch.randn(6))
        self.c = nn.Parameter(torch.randn(6, 3, 3, 1))
        self.d = nn.Parameter(torch.randn(6, 6, 3, 3) / 6)
        self.head = nn.Parameter(torch.randn(4, 6))

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.a, self.b, 2, 1)
        x = F.conv2d(x, weight=self.c, groups=2, padding=(1, 0), dilation=(2, 1))
        x = F.conv2d(x, self.d, padding="same").relu() + F.conv2d(x, self.d, self.b, padding=1)
        x = F.conv2d(x, self.d - self.d.mean())
        return F.linear(x.mean((2, 3)), self.head)


@pytest.mark.parametrize("make", [HAND["functional"], Options])
def test_it_computes_the_same_with_the_same_weights(make: Any) -> None:
    net = drawn(make)
    new = ww.modular(net, input_size=SIZE)
    with torch.no_grad():
        assert torch.equal(new(X), net(X))
    new(X).sum().backward()
    net(X).sum().backward()
    assert sum(p.numel() for p in new.parameters()) == sum(p.numel() for p in net.parameters())
    grads = [sorted(float(p.grad.abs().sum()) for p in n.parameters() if p.grad is not None) for n in (new, net)]
    assert grads[0] == pytest.approx(grads[1])
    assert {n.partition(".")[0] for n, _ in new.named_parameters()} >= {"conv2d", "linear"}
    assert make is Options or not hasattr(new, "w1")
    assert [type(m).__name__ for m in new.children()].count("Conv2d") == (2 if make is not Options else 4)


def test_it_can_be_asked_as_any_other() -> None:
    new = ww.modular(drawn(HAND["functional"]), input_size=SIZE)
    table = ww.sites(new, input_size=SIZE)
    assert [c.name for c in table.cuts] == ["conv2d"]  # around the second something goes
    small = ww.need.collapse(new, "conv2d", input_size=SIZE)
    with torch.no_grad():
        v = F.relu(X.mean((2, 3)) @ new.conv2d.weight.sum((2, 3)).T)
        v = F.relu(v @ new.conv2d_1.weight.sum((2, 3)).T) + v
        torch.testing.assert_close(small(X), F.linear(v, new.linear.weight))


def test_the_networks_own_weights_are_left_alone() -> None:
    net = drawn(HAND["functional"])
    new = ww.modular(net, input_size=SIZE)
    with torch.no_grad():
        new.conv2d.weight.zero_()
    assert net.w1.any()


def test_it_is_recorded() -> None:
    new = ww.modular(ww.Network(drawn(HAND["functional"]), input_size=SIZE))
    assert [r["do"] for r in new.module.surgeries] == ["modular"]


def test_what_has_nothing_to_do_is_refused() -> None:
    with pytest.raises(InputError, match=r"calls no F\.conv2d and no F\.linear on parameters of its own"):
        ww.modular(drawn(HAND["averaged"]), input_size=SIZE)
    with pytest.raises(InputError, match="asks for its pictures' size"):
        ww.modular(drawn(HAND["squeezed"]), input_size=SIZE)
