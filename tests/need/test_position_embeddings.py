"""What becomes of embeddings, tensor by tensor; whole networks are in tests/need/test_embedding_removal.py."""

import torch
from torch import nn

from whatwhere.need.position_embeddings import Embedding, angles_in, put

ORDER = torch.tensor([2, 0, 3, 1])


def test_sines_and_cosines_in_either_order() -> None:
    angle = torch.rand(5, 3)
    for given in (torch.cat([angle.sin(), angle.cos()], -1), (angle.sin(), angle.cos()), (angle.cos(), angle.sin())):
        sine, cosine = angles_in(given)
        assert torch.allclose(sine, angle.sin())
        assert torch.allclose(cosine, angle.cos())


def test_rows_behind_a_prefix_and_grids() -> None:
    module = nn.Module()
    module.rows = nn.Parameter(torch.randn(1, 5, 3))
    module.first, module.last = nn.Parameter(torch.randn(3, 2, 2)), nn.Parameter(torch.randn(2, 2, 3))
    for name, prefix, form in (("rows", 1, "rows"), ("first", 0, "first"), ("last", 0, "last")):
        given = getattr(module, name).detach()
        vectors = {  # of each position, by hand
            "rows": lambda t: [t[0, 1 + i] for i in range(4)],
            "first": lambda t: [t[:, i // 2, i % 2] for i in range(4)],
            "last": lambda t: [t[i // 2, i % 2] for i in range(4)],
        }[name]
        embedding = Embedding(name, "absolute", 4, prefix, form=form)  # type: ignore[arg-type]
        for how in ("permute", "mean", "zero"):
            ((owner, attribute, new),) = embedding.changed(module, how, ORDER)  # type: ignore[arg-type]
            assert (owner, attribute, new.shape) == (module, name, given.shape)
            before = vectors(given)
            for i, vector in enumerate(vectors(new)):
                expected = {"permute": before[ORDER[i]], "mean": sum(before) / 4, "zero": torch.zeros(3)}[how]
                assert torch.allclose(vector, expected, atol=1e-6)
        if name == "rows":
            assert torch.equal(new[:, 0], given[:, 0])


def test_a_table_of_offsets_loses_those_of_pairs_of_patches_alone() -> None:
    module = nn.Module()
    module.table = nn.Parameter(torch.randn(6, 2))  # three offsets, and three of a class token
    module.index = torch.tensor([[5, 3, 3, 3], [4, 1, 0, 2], [4, 2, 1, 0], [4, 0, 2, 1]])
    embedding = Embedding("index", "relative", 3, 1, table="table")
    for how, value in (("zero", torch.zeros(2)), ("mean", module.table[:3].mean(0))):
        ((_, attribute, new),) = embedding.changed(module, how, ORDER[:3])  # type: ignore[arg-type]
        assert attribute == "table"
        assert torch.allclose(new[:3], value.expand(3, 2))
        assert torch.equal(new[3:], module.table[3:])
    order = torch.tensor([1, 2, 0])
    ((_, attribute, moved),) = embedding.changed(module, "permute", order)
    assert attribute == "index"
    for i in range(4):
        for j in range(4):
            a, b = (0 if k == 0 else 1 + int(order[k - 1]) for k in (i, j))
            assert moved[i, j] == module.index[a, b]


def test_what_is_put_in_place_goes_away() -> None:
    module = nn.Linear(2, 2)
    own = module.weight
    with put([(module, "weight", torch.zeros(2, 2))]):
        assert not module.weight.any()
    assert module.weight is own
