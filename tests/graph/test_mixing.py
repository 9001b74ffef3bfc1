"""Which parts mix positions: by a rule on names for the papers' networks, by hand for others."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from small_nets import HAND, LIBRARIES, PAPERS, SIZE, drawn
from small_tokens import TRANSFORMERS, transformer
from whatwhere.graph.flow import flow_of
from whatwhere.graph.mixing import Places
from whatwhere.site_table import list_sites


def names(net: nn.Module) -> list[str]:
    table = list_sites(net, input_size=SIZE)
    return [c.site.name for c in Places(flow_of(net, input_size=SIZE), table).cuts]


def by_the_paper(net: nn.Module, blocks: tuple[type[nn.Module], ...]) -> Iterator[str]:
    """Before each k x k convolution, and each residual block, by their types."""
    inside = ""
    for name, m in net.named_modules():
        if inside and name.startswith(inside + "."):
            continue
        if isinstance(m, blocks) or (isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)):
            inside = name
            yield name


@pytest.mark.parametrize("name", PAPERS)
def test_the_papers_networks_are_cut_as_the_paper_does(name: str) -> None:
    net = drawn(PAPERS[name])
    last = ["layer4.0"] if "layer4.0" in dict(net.named_modules()) else []  # at this size its maps are 1 x 1
    assert [*names(net), *last] == list(by_the_paper(net, (BasicBlock, Bottleneck)))


@pytest.mark.parametrize(
    ("make_net", "expected"),
    [
        (HAND["averaged"], ["stem", "block", "down"]),
        (HAND["shortcut"], ["conv1", "conv2"]),
        (HAND["flattened"], ["conv1", "conv2"]),
        (HAND["squeezed"], ["stem", "wide", "last#2"]),
        (LIBRARIES["densenet"], ["features.conv0", "features.denseblock1", "features.denseblock2"]),
        (LIBRARIES["vit"], ["patch_embed.proj", *(f"blocks.{i}" for i in range(6))]),
        (LIBRARIES["swin"], ["features.0.0", "features.1.0", "features.3.0"]),
    ],
    ids=["averaged", "shortcut", "flattened", "squeezed", "densenet", "vit", "swin"],
)
def test_other_networks_are_cut_where_nothing_goes_round(make_net, expected: list[str]) -> None:
    assert names(drawn(make_net)) == expected


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers_are_cut_at_every_block(name: str) -> None:
    net = transformer(name)
    kinds = {n: type(m).__name__ for n, m in net.module.named_modules()}
    blocks = [n for n, kind in kinds.items() if "Block" in kind and "MLP" not in kind]
    found = [c.name for c in list_sites(net).cuts]
    assert len(blocks) in (2, 3)
    assert set(blocks) <= set(found)


@pytest.mark.parametrize("name", ["deit3", "registers", "swin"])
def test_so_are_new_ones_whose_attention_does_next_to_nothing(name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = TRANSFORMERS[name]().eval()  # a layer scale of 1e-6, or logits near zero
    size = (3, 28, 28) if name == "registers" else SIZE
    assert {"blocks.1", "layers.0.blocks.1"} & {c.name for c in list_sites(net, input_size=size).cuts}


class Shifted(nn.Module):
    """Moves channels by one position: home-made, with a weight that is not a convolution's."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, :2].roll(1, 2), x[:, 2:].roll(1, 3)], 1) * self.scale


class TokenMixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.over = nn.Linear(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.over(x.flatten(2)).view_as(x)


class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.fc(x.mean((2, 3), keepdim=True)))


@pytest.mark.parametrize(
    ("part", "mixes"),
    [
        (nn.Conv2d(4, 4, 3, padding=1, groups=4), True),
        (nn.Conv2d(4, 4, 2, 2), True),
        (Shifted(), True),
        (TokenMixer(), True),
        (nn.Conv2d(4, 4, 1), False),
        (nn.Conv2d(4, 4, 1, 2), False),
        (nn.BatchNorm2d(4), False),
        (nn.GroupNorm(2, 4), False),
        (nn.MaxPool2d(2), False),  # it mixes, and has learned nothing
        (Gate(), False),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else str(v),
)
def test_what_counts_as_mixing(part: nn.Module, mixes: bool) -> None:
    net = drawn(lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.AvgPool2d(4), part, nn.ReLU(), nn.Conv2d(4, 2, 1)))
    assert names(net) == (["2"] if mixes else [])
