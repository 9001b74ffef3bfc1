"""What is left after a removal is what two pictures with the same pooled value tell apart, and nothing else."""

import copy

import pytest
import torch
from torch import Tensor, nn

from small_nets import HAND, LIBRARIES, PAPERS, SIZE, drawn
from whatwhere.need.leftover import NOTHING, left_over
from whatwhere.site_table import list_sites


@pytest.mark.parametrize("name", ["averaged", "shortcut", "bottlenecks", "densenet", "efficientnet", "vit"])
def test_nothing_is_left_from_a_cut_on(name: str) -> None:
    net = drawn({**HAND, **PAPERS, **LIBRARIES}[name])
    table = list_sites(net, input_size=SIZE)
    before = copy.deepcopy(net.state_dict())
    for cut in table.cuts[:: max(1, len(table.cuts) // 3)]:
        assert left_over(net, cut, table) < NOTHING
    after = net.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert not any(m._forward_pre_hooks for m in net.modules())


class Weighed(nn.Module):
    """Adds to the mean a share of the map's corner, which no convolution reads."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.conv, self.share = nn.Conv2d(3, 4, 3, padding=1), share

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).mean((2, 3)) + self.share * x[:, :1, 0, 0]


def test_the_share_is_that_of_the_largest_score() -> None:
    torch.manual_seed(0)
    net = Weighed(0.5).eval()
    table = list_sites(net, input_size=SIZE)
    (conv,) = [s for s in table if s.name == "conv"]
    x = torch.randn(1, *SIZE, generator=torch.Generator().manual_seed(0))
    order = torch.randperm(32 * 32, generator=torch.Generator().manual_seed(1))
    other = x.flatten(2)[..., order].view_as(x)
    constant = x.mean((2, 3), keepdim=True).expand_as(x)
    with torch.no_grad():
        rest = net.conv(constant).mean((2, 3))
        one, two = (rest + 0.5 * p[:, :1, 0, 0] for p in (x, other))
        expected = (one - two).abs().max() / torch.cat([one, two]).abs().max()
    assert left_over(net, conv, table) == pytest.approx(float(expected), rel=1e-4)
    net.share = 0.0
    assert left_over(net, conv, table) < NOTHING
