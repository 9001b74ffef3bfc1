import pytest
import torch
from torch import Tensor, nn

from small_nets import SIZE, drawn
from whatwhere.errors import InputError
from whatwhere.graph.flow import flow_of
from whatwhere.need.borderless import on_constant_maps


def test_a_constant_map_is_seen_without_borders() -> None:
    net = drawn(lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(3, 2, 1), nn.Flatten(2)))
    flow = flow_of(net, input_size=SIZE)
    value = torch.rand(2, 3, 1, 1).expand(2, *SIZE).contiguous()
    found = on_constant_maps(flow, flow.picture, value)
    with torch.no_grad():
        inside = net[0](value)[:, :, 5, 5].relu()  # type: ignore[index,operator]
    torch.testing.assert_close(found[flow.output], inside[:, :, None].expand(-1, -1, 256))
    assert found[flow.picture] is value


class Placed(nn.Module):
    """Adds something that depends on the position."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.where = nn.Parameter(torch.randn(1, 4, 32, 32))

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x) + self.where)


def test_what_varies_over_space_is_named() -> None:
    flow = flow_of(drawn(Placed), input_size=SIZE)
    with pytest.raises(InputError, match="the map that enters b varies over space"):
        on_constant_maps(flow, flow.picture, torch.ones(2, *SIZE))
