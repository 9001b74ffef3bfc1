"""A gate in the wrong place is found out."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from small_nets import LIBRARIES, PAPERS, SIZE, drawn
from whatwhere.errors import InputError
from whatwhere.graph.flow import flow_of
from whatwhere.site_table import list_sites
from whatwhere.surgery import copied, put
from whatwhere.use.closed import check_closed
from whatwhere.use.places import Place, Places
from whatwhere.use.recalibrated import Recalibrated


def checked(net: nn.Module, places: Places, inserted: list[Place]) -> None:
    module = copied(net)
    for place in inserted:
        put(
            module,
            place.module,
            Recalibrated(module.get_submodule(place.module), nn.BatchNorm2d(place.channels), place.at),
        )
    check_closed(places, module, inserted)


def with_places(net: nn.Module) -> tuple[nn.Module, Places]:
    return net, Places(flow_of(net, input_size=SIZE), list_sites(net, input_size=SIZE))


@pytest.mark.parametrize("name", ["resnet", "densenet", "preact", "convnext", "nfnet", "byobnet", "vit", "swin"])
def test_places_that_were_found_are_right_all_of_them_or_one(name: str) -> None:
    net, places = with_places(drawn({**PAPERS, **LIBRARIES}[name]))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    checked(net, places, list(places.at_ends))
    checked(net, places, [places.at_ends[1]])
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def elsewhere(places: Places, module: str) -> list[Place]:
    """The first place, but that the gate stands behind another module; and the branch believes it."""
    first = places.at_ends[0]
    (node,) = (n for n, calls in places.flow.calls.items() if any(c.module == module for c in calls))
    moved = replace(first, module=module, nodes=(node,))
    places.__dict__["at_ends"] = (moved, *places.at_ends[1:])
    end = next(b.end for _, b in places.branches if places._found[b.end] == first)
    places._found[end] = moved
    return [moved]


def test_a_gate_before_the_last_norm_does_not_shut_the_branch() -> None:
    net, places = with_places(drawn(PAPERS["resnet"]))
    moved = elsewhere(places, "layer1.0.conv2")
    with pytest.raises(InputError, match=r"gates of layer1.0.conv2 do not stand at the ends of their branches"):
        checked(net, places, moved)


def test_a_gate_on_the_shortcut_too_does_not_leave_it_as_it_is() -> None:
    class Before(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.a, self.b = (nn.Conv2d(c, 4, 3, padding=1) for c in (3, 4, 4))

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return x + self.b(F.relu(self.a(x)))

    net, places = with_places(drawn(Before))
    with pytest.raises(InputError, match="gates of conv"):
        checked(net, places, elsewhere(places, "conv"))


class Sigmoid(nn.Module):
    """Its branch goes on behind its last layer, to what is not zero where that is."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.sigmoid(self.conv(x))


def test_a_scale_of_a_millionth_hides_nothing() -> None:
    net = drawn(lambda: nn.Sequential(PAPERS["resnet"]()))
    with torch.no_grad():
        for i in range(1, 5):
            net.get_submodule(f"0.layer{i}.0.bn2").weight.fill_(1e-6)  # type: ignore[union-attr, operator]
    net, places = with_places(net)
    with pytest.raises(InputError, match="do not stand"):
        checked(net, places, elsewhere(places, "0.layer2.0.conv2"))


def test_where_zeros_do_not_stay_zeros_there_is_no_place() -> None:
    _, places = with_places(drawn(Sigmoid))
    assert not places.at_ends
    assert "sigmoid" in str(places.left_out)
