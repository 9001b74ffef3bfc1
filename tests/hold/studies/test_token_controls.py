"""Controls of transformers, against pictures whose patches were moved by hand."""

import pytest
import torch
from torchvision.models.resnet import BasicBlock, ResNet

import whatwhere as ww
from small_tokens import transformer
from whatwhere.data.known_answer import known_answer
from whatwhere.hold.studies.token_controls import EMBEDDING, LABELS, PATCHES, acting, moved, token_controls

SIZE = (3, 32, 32)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vit", [EMBEDDING, PATCHES]),
        ("none", [PATCHES]),
        ("beit", [EMBEDDING, PATCHES]),
        ("swin", [EMBEDDING, PATCHES]),
        ("torchvision-swin", [EMBEDDING]),
    ],
)
def test_which_controls_a_network_can_have(name: str, expected: list[str]) -> None:
    assert token_controls(transformer(name), SIZE) == expected


def test_a_convolutional_network_has_none() -> None:
    assert token_controls(ww.Network(ResNet(BasicBlock, [1, 1, 1, 1])), SIZE) == []


def test_positions_trade_places_alike_in_all_channels() -> None:
    maps = torch.randn(3, 4, 2, 5)
    found = moved(maps, torch.Generator().manual_seed(7))
    draws = torch.Generator().manual_seed(7)
    for n in range(3):
        order = torch.randperm(10, generator=draws).tolist()
        for to, source in enumerate(order):
            assert torch.equal(found[n, :, to // 5, to % 5], maps[n, :, source // 5, source % 5])


@torch.no_grad()
@pytest.mark.parametrize("name", ["vit", "torchvision", "dinov3"])
def test_moved_patches_are_those_of_a_picture_that_was_cut_up(name: str) -> None:
    net, x = transformer(name), torch.randn(2, *SIZE)
    with acting(PATCHES, net, SIZE, seed=3):
        found = net.module(x)
    draws, cut_up = torch.Generator().manual_seed(3), torch.empty_like(x)
    for n in range(2):
        for to, source in enumerate(torch.randperm(16, generator=draws).tolist()):
            (a, b), (c, d) = divmod(to, 4), divmod(source, 4)
            patch = x[n, :, 8 * c : 8 * c + 8, 8 * d : 8 * d + 8]
            cut_up[n, :, 8 * a : 8 * a + 8, 8 * b : 8 * b + 8] = patch
    assert torch.allclose(found, net.module(cut_up), atol=1e-4)
    assert not torch.allclose(found, net.module(x), atol=1e-2)


def test_a_read_out_says_where_position_comes_from() -> None:
    data = known_answer("what", train=60, test=40)
    sizes = {"pictures": 60, "test_pictures": 40, "size": 8, "kernels": 1, "untrained": 0}
    found = ww.hold.readout(
        transformer("vit"), data, sites="cuts", targets="H", paddings=(), blanks=(), quiet=True, **sizes
    )
    assert [r.site for r in found.of(target="H")] == ["patch_embed.proj", "blocks.0", "blocks.1", "all", "rgb"]
    assert set(LABELS.values()) <= set(found.controls)
    assert "it comes from the embedding" in found.conclusion
    own = {r.site: r.spc for r in found.of(target="H")}
    without = {r.site: r.spc for r in found.of(LABELS[EMBEDDING], target="H")}
    assert without["all"].high < own["all"].low
    assert without["rgb"] == own["rgb"]
