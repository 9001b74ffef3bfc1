"""Position embeddings are found by what they do: against what the libraries' networks are known to have."""

import pytest
import torch
from torch import Tensor, nn

from small_tokens import TRANSFORMERS, transformer
from whatwhere.need.embedding_search import embeddings_of
from whatwhere.need.position_embeddings import Embedding
from whatwhere.network import Network

KNOWN: dict[str, list[tuple[str, str, int, int]]] = {
    "vit": [("pos_embed", "absolute", 16, 1)],
    "none": [],
    "pooled": [("pos_embed", "absolute", 16, 0)],
    "deit": [("pos_embed", "absolute", 16, 2)],
    "deit3": [("pos_embed", "absolute", 16, 0)],
    "registers": [("pos_embed", "absolute", 16, 0)],
    "clip": [("pos_embed", "absolute", 16, 1)],
    "eva": [("pos_embed", "absolute", 16, 1), ("rope", "rotary", 16, 0)],
    "dinov3": [("rope", "rotary", 16, 0)],
    "beit": [(f"blocks.{i}.attn.relative_position_index", "relative", 16, 1) for i in range(2)],
    "torchvision": [("encoder.pos_embedding", "absolute", 16, 1)],
}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_what_the_libraries_networks_have(name: str) -> None:
    found = [(e.name, e.kind, e.positions, e.prefix) for e in embeddings_of(transformer(name))]
    if "swin" in name:
        assert {kind for _, kind, *_ in found} == {"relative"}
        assert len(found) == 3  # a table in each block
    else:
        assert found == KNOWN[name]


class Strange(nn.Module):
    """A grid of its own name, of channels first; a decoy of the same shape that is multiplied, one that is not used."""

    def __init__(self, last: bool) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 6, 4, 4), nn.Conv2d(6, 4, 1)
        self.last = last
        self.atlas = nn.Parameter(torch.randn((1, 4, 4, 6) if last else (6, 4, 4)))
        self.gain = nn.Parameter(torch.rand(6, 4, 4) + 0.5)
        self.unused = nn.Parameter(torch.randn(6, 4, 4))

    def forward(self, x: Tensor) -> Tensor:
        maps = self.stem(x) + (self.atlas.permute(0, 3, 1, 2) if self.last else self.atlas)
        return self.head(maps * self.gain).mean((2, 3))


@pytest.mark.parametrize("last", [False, True])
def test_a_grid_of_any_name_and_no_decoy(last: bool) -> None:
    # The gain comes after the sum, so that the sum does not arrive as it is: the site sees another change.
    class Seen(Strange):
        def forward(self, x: Tensor) -> Tensor:
            maps = self.seen(self.stem(x) + (self.atlas.permute(0, 3, 1, 2) if self.last else self.atlas))
            return self.head(maps * self.gain).mean((2, 3))

    module = Seen(last)
    module.seen = nn.Identity()
    assert embeddings_of(Network(module, input_size=(3, 16, 16))) == (
        Embedding("atlas", "absolute", 16, form="last" if last else "first"),
    )
    assert embeddings_of(Network(Strange(last), input_size=(3, 16, 16))) == ()


def test_hugging_faces() -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    config = transformers.ViTConfig(**sizes, image_size=32, patch_size=8)
    vit = _Features(transformers.ViTModel(config, add_pooling_layer=False))
    found = embeddings_of(Network(vit.eval(), input_size=(3, 32, 32)))
    assert [(e.kind, e.positions, e.prefix) for e in found] == [("absolute", 16, 1)]
    config = transformers.DINOv3ViTConfig(**sizes, image_size=32, patch_size=8, num_register_tokens=2)
    dino = _Features(transformers.DINOv3ViTModel(config))
    found = embeddings_of(Network(dino.eval(), input_size=(3, 32, 32)))
    assert [(e.kind, e.positions) for e in found] == [("rotary", 16)]


class _Features(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).last_hidden_state[:, 0]
