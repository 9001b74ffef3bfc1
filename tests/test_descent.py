"""One pass of gradient descent, against the loop that anyone would write."""

import pytest
import torch
from torch import Tensor, nn

from whatwhere import descent
from whatwhere.descent import NotFinite, descend


def batches(n: int = 7) -> list[Tensor]:
    return list(torch.randn(n, 4, 3, generator=torch.Generator().manual_seed(0)))


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


@pytest.fixture(params=[True, False], ids=["on the host", "on a device"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses as of a CPU; and as of a GPU, read after every third step only."""
    monkeypatch.setattr(descent, "_at_hand", lambda value: request.param)
    monkeypatch.setattr(descent, "READ", 3)


@pytest.mark.usefixtures("place")
def test_a_pass_is_the_loop_over_batches() -> None:
    found, expected = linear(), linear()
    one, two = (torch.optim.SGD(m.parameters(), lr=1.0, momentum=0.9) for m in (found, expected))
    steps: list[int] = []
    losses = descend(
        batches(), lambda x: found(x).square().mean(), one, rate=lambda i: 0.1 / (i + 1), on_step=steps.append
    )
    by_hand = []
    for i, x in enumerate(batches()):
        two.param_groups[0]["lr"] = 0.1 / (i + 1)
        loss = expected(x).square().mean()
        two.zero_grad()
        loss.backward()
        two.step()
        by_hand.append(loss.item())
    assert losses.tolist() == by_hand
    assert steps == list(range(7))
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), expected.parameters(), strict=True))


@pytest.mark.usefixtures("place")
def test_several_losses_go_down_as_if_each_were_alone() -> None:
    pair, alone = [linear(), linear()], [linear(), linear()]
    weights = [1.0, 3.0]
    losses = descend(
        batches(),
        lambda x: torch.stack([w * m(x).square().mean() for m, w in zip(pair, weights, strict=True)]),
        torch.optim.SGD([p for m in pair for p in m.parameters()], lr=0.1),
    )
    assert losses.shape == (7, 2)
    for i, (m, w) in enumerate(zip(alone, weights, strict=True)):
        own = descend(batches(), lambda x, m=m, w=w: w * m(x).square().mean(), torch.optim.SGD(m.parameters(), lr=0.1))
        assert torch.equal(own, losses[:, i])
        assert all(torch.equal(a, b) for a, b in zip(pair[i].parameters(), m.parameters(), strict=True))


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("step", [0, 4, 6])
def test_the_first_loss_that_is_not_finite_is_named(value: float, step: int) -> None:
    net, done = linear(), []

    def loss(x: Tensor) -> Tensor:
        broken = value if len(done) >= step else 1.0
        return torch.stack([net(x).square().mean(), net(x).square().mean() * broken])

    with pytest.raises(NotFinite) as caught:
        descend(batches(), loss, torch.optim.SGD(net.parameters(), lr=0.1), on_step=done.append)
    assert (caught.value.step, caught.value.which) == (step, 1)
    assert caught.value.loss == pytest.approx(value, nan_ok=True)
    assert len(done) <= step + 3


def test_gradients_are_computed_where_none_are_wanted() -> None:
    net = linear()
    before = net.weight.detach().clone()
    with torch.no_grad():
        descend(batches(1), lambda x: net(x).sum(), torch.optim.SGD(net.parameters(), lr=0.1))
    assert not torch.equal(net.weight, before)


def test_no_batch_no_loss() -> None:
    net = linear()
    assert descend([], lambda x: net(x).sum(), torch.optim.SGD(net.parameters(), lr=0.1)).shape == (0,)
