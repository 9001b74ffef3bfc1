import pytest
import torch
from torch import Tensor, nn

from small_nets import LIBRARIES, SIZE, drawn
from whatwhere.graph.flow import flow_of
from whatwhere.need.borderless import on_constant_maps
from whatwhere.need.equal_tokens import affine_unit
from whatwhere.need.pooled import constant_at
from whatwhere.site_table import list_sites


@pytest.mark.parametrize(("name", "node"), [("swin", "matmul_1"), ("coatnet", "scaled_dot_product_attention")])
def test_attention_on_equal_tokens_is_one_affine_layer(name: str, node: str) -> None:
    net = drawn(LIBRARIES[name])
    flow, table = flow_of(net, input_size=SIZE), list_sites(net, input_size=SIZE)
    start = flow.entering(table.cuts[1])
    assert start
    unit = affine_unit(flow, start, flow.named[node], on_constant_maps(flow, start, constant_at(flow, table.cuts[1])))
    assert unit
    shape = flow.shapes[unit.entry]
    axis = 1 if name == "coatnet" else len(shape) - 1
    v = torch.randn(2, shape[axis], generator=torch.Generator().manual_seed(2))
    maps = (
        v.repeat(shape[0] // 2, 1)
        .view(shape[0], *[-1 if i == axis else 1 for i in range(1, len(shape))])
        .expand(shape)
        .contiguous()
    )
    with torch.no_grad():
        expected = flow.run({unit.entry: maps}, [unit.exit])[unit.exit]
        seen = unit.layer(maps)
    first = [x.movedim(axis, -1).flatten(1, -2)[:, 0] for x in (seen, expected)]
    torch.testing.assert_close(first[0], first[1], atol=1e-4, rtol=1e-4)
    assert flow.named[node] in unit.inside


def test_what_is_not_affine_has_no_layer() -> None:
    net = drawn(lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sigmoid(), nn.Conv2d(4, 4, 1)))
    flow = flow_of(net, input_size=SIZE)
    values = on_constant_maps(flow, flow.picture, torch.rand(2, 3, 1, 1).expand(2, *SIZE).contiguous())
    assert affine_unit(flow, flow.picture, flow.named["_1"], values) is None


class Round(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return (self.conv(x) + x).mean((2, 3))


def test_what_goes_round_a_part_does_not_belong_to_it() -> None:
    flow = flow_of(drawn(Round), input_size=SIZE)
    values = on_constant_maps(flow, flow.picture, torch.rand(2, 3, 1, 1).expand(2, *SIZE).contiguous())
    unit = affine_unit(flow, flow.picture, flow.named["conv"], values)
    assert unit
    assert [n.name for n in unit.inside] == ["conv"]
