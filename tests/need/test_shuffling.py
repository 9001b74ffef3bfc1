import math
from collections import Counter
from itertools import product
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

from whatwhere.errors import InputError
from whatwhere.graph.around import ways_round
from whatwhere.models.cifar import make
from whatwhere.need.averaging import pool
from whatwhere.need.gap_fc import collapse
from whatwhere.need.shuffling import (
    MODES,
    Shuffler,
    draw,
    permute,
    shuffle,
    spatial_targets,
)
from whatwhere.site_table import list_sites

SHAPE = (3, 4, 6)
Place = tuple[int, int, int]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def moves(index: Tensor, shape: Place) -> dict[Place, Place]:
    """Where each entry comes from: {(c, h, w): (c', h', w')}, by counting."""
    places = list(product(*(range(n) for n in shape)))
    return {place: places[int(index[i])] for i, place in enumerate(places)}


# What each mode may do: (is this single move allowed, what the source's changing part may depend on).
STRUCTURE: dict[str, tuple[Any, Any, Any]] = {
    "per-channel": (lambda a, b: a[0] == b[0], lambda a: a, lambda b: b),
    "shared": (lambda a, b: a[0] == b[0], lambda a: a[1:], lambda b: b[1:]),
    "all": (lambda a, b: True, lambda a: a, lambda b: b),
    "channel": (lambda a, b: a[1:] == b[1:], lambda a: a[0], lambda b: b[0]),
    "channel-per-position": (lambda a, b: a[1:] == b[1:], lambda a: a, lambda b: b),
    "block": (lambda a, b: (a[0], a[1] // 2, a[2] // 3) == (b[0], b[1] // 2, b[2] // 3), lambda a: a, lambda b: b),
    "rows": (lambda a, b: (a[0], a[2]) == (b[0], b[2]), lambda a: a[1], lambda b: b[1]),
    "columns": (lambda a, b: a[:2] == b[:2], lambda a: a[2], lambda b: b[2]),
    "fixed": (lambda a, b: a[0] == b[0], lambda a: a[1:], lambda b: b[1:]),
}


def test_every_mode_has_a_structure_test() -> None:
    assert set(STRUCTURE) == set(MODES)


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_moves_what_it_may_and_nothing_else(mode: Any) -> None:
    allowed, depends_on, part = STRUCTURE[mode]
    g = rng(1)
    for _ in range(20):
        found = moves(draw(mode, SHAPE, g, block=(2, 3)), SHAPE)
        assert len(set(found.values())) == math.prod(SHAPE)  # a permutation
        sources: dict[Any, Any] = {}
        for a, b in found.items():
            assert allowed(a, b), (a, b)
            assert sources.setdefault(depends_on(a), part(b)) == part(b)  # alike wherever it must be alike


# (mode, map, block, number of equally likely permutations, counted by hand)
@pytest.mark.parametrize(
    ("mode", "shape", "block", "outcomes"),
    [
        ("per-channel", (2, 1, 3), (1, 1), 6 * 6),
        ("shared", (2, 1, 3), (1, 1), 6),
        ("shared", (1, 2, 2), (1, 1), 24),
        ("all", (2, 1, 2), (1, 1), 24),
        ("channel", (3, 2, 1), (1, 1), 6),
        ("channel-per-position", (3, 1, 2), (1, 1), 6 * 6),
        ("block", (2, 2, 2), (1, 2), 2**4),
        ("block", (1, 2, 4), (2, 2), 24 * 24),
        ("rows", (2, 3, 2), (1, 1), 6),
        ("columns", (2, 2, 3), (1, 1), 6),
        ("fixed", (2, 1, 3), (1, 1), 6),
    ],
)
def test_every_permutation_of_a_mode_is_equally_likely(mode: Any, shape: Place, block: Any, outcomes: int) -> None:
    g = rng(0)
    drawn = Counter(tuple(draw(mode, shape, g, block=block).tolist()) for _ in range(20 * outcomes))
    assert len(drawn) <= outcomes
    counts = list(drawn.values()) + [0] * (outcomes - len(drawn))
    assert chisquare(counts).pvalue > 0.001


def test_block_of_the_whole_map_is_per_channel_and_block_of_one_is_nothing() -> None:
    assert torch.equal(draw("block", SHAPE, rng(), block=(1, 1)), torch.arange(72))
    assert torch.equal(draw("block", SHAPE, rng(), block=(4, 6)), draw("per-channel", SHAPE, rng()))


# ---- permute


def by_loops(maps: Tensor, index: Tensor) -> Tensor:
    n, c, h, w = maps.shape
    out = torch.empty(n, c, h, w, dtype=maps.dtype)
    for i in range(n):
        row = index if index.ndim == 1 else index[i]
        for k, (a, b, d) in enumerate(product(range(c), range(h), range(w))):
            source = int(row[k])
            out[i, a, b, d] = maps[i, source // (h * w), source // w % h, source % w]
    return out


def indices(n: int, shape: Place, per_sample: bool) -> Tensor:
    g = rng(3)
    size = math.prod(shape)
    return (
        torch.stack([torch.randperm(size, generator=g) for _ in range(n)])
        if per_sample
        else torch.randperm(size, generator=g)
    )


FORMATS: dict[str, Any] = {
    "contiguous": lambda x: x.contiguous(),
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "part of a larger": lambda x: torch.cat([x, x], 3)[..., : x.shape[3]],
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
}


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("memory", FORMATS)
@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 3, 2), (4, 1, 1), (5, 1, 3)])
def test_permute_is_indexing_by_loops(shape: Place, memory: str, per_sample: bool) -> None:
    maps = FORMATS[memory](torch.randn(2, *shape, generator=rng()))
    index = indices(2, shape, per_sample)
    assert torch.equal(permute(maps, index), by_loops(maps, index))


def test_permute_keeps_the_memory_format_and_the_precision() -> None:
    maps, index = torch.randn(2, 3, 4, 5, dtype=torch.bfloat16), torch.randperm(60)
    assert permute(maps, index).is_contiguous()
    last = permute(maps.contiguous(memory_format=torch.channels_last), index)
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert last.dtype == torch.bfloat16


@pytest.mark.parametrize("memory", ["contiguous", "channels_last"])
@pytest.mark.parametrize("per_sample", [False, True])
def test_permute_inverts(memory: str, per_sample: bool) -> None:
    maps = FORMATS[memory](torch.randn(2, *SHAPE, generator=rng()))
    index = indices(2, SHAPE, per_sample)
    assert torch.equal(permute(permute(maps, index), index.argsort(-1)), maps)
    assert torch.equal(permute(maps, torch.arange(72)), maps)


@pytest.mark.parametrize("memory", ["contiguous", "channels_last"])
@pytest.mark.parametrize("per_sample", [False, True])
def test_gradient_is_that_of_plain_indexing(memory: str, per_sample: bool) -> None:
    maps = FORMATS[memory](torch.randn(2, *SHAPE, generator=rng())).requires_grad_()
    index = indices(2, SHAPE, per_sample)
    plain = maps.detach().clone().requires_grad_()
    weight = torch.randn(2, *SHAPE, generator=rng(7))
    (permute(maps, index).square() * weight).sum().backward()
    rows = index.expand(2, -1)
    gathered = plain.flatten(1)[torch.arange(2)[:, None], rows].view_as(plain)
    (gathered.square() * weight).sum().backward()
    assert torch.equal(maps.grad, plain.grad)


@pytest.mark.parametrize("memory", ["contiguous", "channels_last"])
def test_gradcheck(memory: str) -> None:
    maps = FORMATS[memory](torch.randn(2, 2, 2, 3, generator=rng(), dtype=torch.float64)).requires_grad_()
    for per_sample in (False, True):
        index = indices(2, (2, 2, 3), per_sample)
        assert torch.autograd.gradcheck(lambda x, i=index: permute(x, i), maps)
        assert torch.autograd.gradgradcheck(lambda x, i=index: permute(x, i).pow(3), maps)


# ---- draws: scopes, seeds


def numbered(n: int, shape: Place = SHAPE) -> Tensor:
    """Every picture holds its entries' numbers, so that a shuffled picture *is* the index."""
    return torch.arange(float(math.prod(shape))).view(1, *shape).repeat(n, 1, 1, 1)


def test_batch_scope_shares_a_draw_and_redraws() -> None:
    shuffler = Shuffler("per-channel", rng())
    first, second = shuffler(numbered(3)), shuffler(numbered(3))
    assert torch.equal(first[0], first[1])
    assert torch.equal(first[0], first[2])
    assert not torch.equal(first, second)


def test_sample_scope_draws_for_each_picture() -> None:
    shuffler = Shuffler("per-channel", rng(), scope="sample")
    first, second = shuffler(numbered(2)), shuffler(numbered(2))
    seen = {tuple(p.flatten().tolist()) for p in (*first, *second)}
    assert len(seen) == 4
    g = rng()
    assert torch.equal(first[0].flatten().long(), draw("per-channel", SHAPE, g))
    assert torch.equal(first[1].flatten().long(), draw("per-channel", SHAPE, g))


@pytest.mark.parametrize(("mode", "scope"), [("per-channel", "fixed"), ("fixed", "batch"), ("fixed", "sample")])
def test_fixed_scope_keeps_its_draw(mode: Any, scope: Any) -> None:
    shuffler = Shuffler(mode, rng(), scope=scope)
    first = shuffler(numbered(2))
    assert torch.equal(first, shuffler(numbered(2)))
    assert torch.equal(first[0], first[1])


@pytest.mark.parametrize(("mode", "scope"), [("fixed", "batch"), ("per-channel", "fixed")])
def test_fixed_draws_are_those_of_the_seed_and_the_site(mode: Any, scope: Any) -> None:
    """A network is tested, and resumed, in another block than it was trained in."""
    net = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)).eval()
    table, x, generator = list_sites(net, input_size=(3, 6, 6)), torch.randn(2, 3, 6, 6), rng(4)

    def out(sites: str, g: torch.Generator) -> Tensor:
        with torch.no_grad(), shuffle(net, sites, mode=mode, scope=scope, generator=g, table=table):
            return net(x)

    first = out("0:", generator)
    torch.rand(9, generator=generator)  # as a training goes on drawing
    assert torch.equal(out("0:", generator), first)
    assert not torch.equal(out("0:", rng(5)), first)
    seen: list[Tensor] = []
    for sites in ("0:", "1"):  # the second convolution's draw does not depend on what else is shuffled
        with shuffle(net, sites, mode=mode, scope=scope, generator=rng(4), table=table) as block:
            seen.append(next(change for s, change in block.inputs.items() if s.module == "1")(x))
    assert torch.equal(*seen)


def test_fixed_scope_keeps_a_draw_for_each_shape() -> None:
    """A projection's input and output go through one shuffler: as many entries, but of another shape."""
    shuffler = Shuffler("per-channel", rng(), scope="fixed")
    wide, deep = (2, 4, 4), (8, 2, 2)
    first = shuffler(numbered(1, wide)), shuffler(numbered(1, deep))
    again = shuffler(numbered(1, wide)), shuffler(numbered(1, deep))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert all(a[0] == b[0] for a, b in moves(first[1].flatten(), deep).items())


def test_draws_depend_on_the_seed_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    a = draw("all", SHAPE, rng(5))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(a, draw("all", SHAPE, rng(5)))
    assert not torch.equal(a, draw("all", SHAPE, rng(6)))


def test_draws_do_not_depend_on_precision_or_memory() -> None:
    maps = numbered(1)
    last = maps.to(torch.float16, memory_format=torch.channels_last)
    shuffled = Shuffler("per-channel", rng())(maps)
    assert torch.equal(Shuffler("per-channel", rng())(last).float(), shuffled)
    assert draw("shared", SHAPE, rng()).device.type == "cpu"


def test_errors() -> None:
    with pytest.raises(InputError, match=r"mode='per-chanel'.*Did you mean 'per-channel'"):
        Shuffler("per-chanel", rng())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="mode='nope'"):
        draw("nope", SHAPE, rng())  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"scope='batches'.*Did you mean 'batch'"):
        Shuffler("all", rng(), scope="batches")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"block=\(3, 3\) does not divide a map of 4 x 6"):
        draw("block", SHAPE, rng(), block=(3, 3))
    with pytest.raises(InputError, match=r"block=\(2, 4\)"):
        draw("block", SHAPE, rng(), block=(2, 4))
    with pytest.raises(InputError, match=r"block=\(0, 2\)"):
        draw("block", SHAPE, rng(), block=(0, 2))
    with pytest.raises(InputError, match="mode='shred'"):
        shuffle(nn.Sequential(nn.Conv2d(1, 1, 3)), mode="shred")  # type: ignore[arg-type]


# ---- shuffle on networks


def seen_by(net: nn.Module, name: str, x: Tensor, times: int = 1) -> list[Tensor]:
    """What enters a module, after all interventions."""
    found: list[Tensor] = []
    handle = net.get_submodule(name).register_forward_pre_hook(lambda _m, a: found.append(a[0].clone()))
    with torch.no_grad():
        for _ in range(times):
            net(x)
    handle.remove()
    return found


@pytest.fixture
def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1)
    ).eval()


def test_shuffles_the_input_of_k_by_k_convolutions_with_the_generators_draws(small: nn.Module) -> None:
    x = torch.randn(2, 2, 4, 5)
    plain = seen_by(small, "0", x)[0]
    g = rng(4)
    expected = [by_loops(plain, draw("per-channel", (2, 4, 5), g))]
    inner = small[3](small[2](small[1](small[0](expected[0])))).detach()
    expected.append(by_loops(inner, draw("per-channel", (4, 4, 5), g)))
    with shuffle(small, input_options(small), seed=4) as active:
        assert active.matched == ("0", "4")
        seen = [seen_by(small, "4", x)[0]]
    assert torch.equal(seen[0], expected[1])
    assert active.ran == {"0": 1, "4": 1}


def input_options(net: nn.Module) -> Any:
    """All convolutions of `small`, found on a small picture."""
    return list_sites(net, input_size=(2, 4, 5)).of_kind("conv")


def test_redraws_every_forward_in_training_and_evaluation(small: nn.Module) -> None:
    x = torch.randn(1, 2, 4, 5)
    table = list_sites(small, input_size=(2, 4, 5))
    with shuffle(small, "4", table=table):
        evaluated = seen_by(small.eval(), "4", x, times=3)
        trained = seen_by(small.train(), "4", x, times=3)
    everything = [tuple(t.flatten().tolist()) for t in (*evaluated, *trained)]
    assert len(set(everything)) == 6
    assert len({tuple(sorted(e)) for e in everything}) == 1  # the same values


@pytest.mark.parametrize(("when", "training"), [("train", True), ("eval", False)])
def test_when(small: nn.Module, when: Any, training: bool) -> None:
    x = torch.randn(1, 2, 4, 5)
    table = list_sites(small, input_size=(2, 4, 5))
    with shuffle(small, "0", when=when, table=table) as active:
        off = seen_by(small.train(not training), "0", x)[0]
        assert not active.ran
        on = seen_by(small.train(training), "0", x)[0]
    assert torch.equal(off, x)
    assert not torch.equal(on, x)


def test_the_same_seed_gives_the_same_scores_and_a_generator_goes_on(small: nn.Module) -> None:
    x, table = torch.randn(1, 2, 4, 5), list_sites(small, input_size=(2, 4, 5))
    with torch.no_grad():
        with shuffle(small, table=table, seed=3):
            a = [small(x), small(x)]
        with shuffle(small, table=table, seed=3):
            b = [small(x), small(x)]
        g = rng(3)
        c = []
        for _ in range(2):
            with shuffle(small, table=table, generator=g):
                c.append(small(x))
    assert all(torch.equal(p, q) and torch.equal(p, r) for p, q, r in zip(a, b, c, strict=True))
    assert not torch.equal(a[0], a[1])


def test_nested_shuffles_do_not_depend_on_who_lists_the_sites() -> None:
    net = make("vgg11", classes=3, width=1 / 16)
    net.eval()
    net.pretrained_cfg = {"input_size": (3, 32, 32)}
    x, table = torch.randn(1, 3, 32, 32), list_sites(net)
    results = []
    for given in (table, None):
        with torch.no_grad(), shuffle(net, "features.0", table=given) as outer, shuffle(net, "features.4", table=given):
            results.append(net(x))
        assert outer.ran == {"features.0": 1}
    assert torch.equal(*results)


def test_targets_of_a_selection() -> None:
    table = list_sites(ResNet(BasicBlock, [1, 1, 1, 1], num_classes=3), input_size=(3, 64, 64))

    def targets(which: Any) -> list[str]:
        return [s.name for s in spatial_targets(table, which)]

    assert targets("layer3") == targets("layer3*") == ["layer3.0.conv1", "layer3.0.conv2"]
    assert targets("layer3.0.conv2:") == ["layer3.0.conv2", "layer4.0.conv1", "layer4.0.conv2"]
    assert targets("layer2.0.downsample.0") == ["layer2.0.downsample.0"]
    assert targets(None) == ["conv1", *(f"layer{i}.0.conv{j}" for i in (1, 2, 3, 4) for j in (1, 2))]
    ways = ways_round(table.dataflow, spatial_targets(table, "layer2.0.conv2:"))
    blocks = [w.block.name for w in ways.shortcuts]
    assert blocks == ["layer3.0", "layer4.0"]  # layer2.0's first convolution is left alone


def test_without_convolutions_the_outermost_sites_are_shuffled() -> None:
    class Blocks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.Sequential(*(nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU()) for _ in range(2)))

        def forward(self, x: Tensor) -> Tensor:
            return self.blocks(x)

    table = list_sites(Blocks(), input_size=(2, 3, 3))
    assert [s.name for s in spatial_targets(table, "blocks.1*")] == ["blocks.1"]
    assert [s.name for s in spatial_targets(table, ["blocks.0", "blocks.1"])] == ["blocks.0", "blocks.1"]


# ---- identities


def kernel_sum(conv: nn.Conv2d, maps: Tensor) -> Tensor:
    """sum_c (sum_k w_ck) mean_c(x), by loops: (C, H, W) to (C',)."""
    weight = conv.weight.detach()
    out = []
    for o in range(weight.shape[0]):
        total = 0.0 if conv.bias is None else conv.bias[o].item()
        for c in range(weight.shape[1]):
            kernel = sum(float(v) for v in weight[o, c].flatten())
            values = maps[c].flatten().tolist()
            total += kernel * sum(values) / len(values)
        out.append(total)
    return torch.tensor(out)


@pytest.mark.parametrize("scope", ["sample", "batch"])
def test_the_mean_over_shuffles_is_the_collapsed_network(scope: Any) -> None:
    """papers.md, section 1: E[conv(shuffled x)] = sum_c (sum_k w_ck) mean_c(x), with circular padding."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Identity())
    x = torch.randn(2, 4, 4) + 1
    n = 4000 if scope == "sample" else 1500
    batch = x.expand(n if scope == "sample" else 1, 2, 4, 4)
    table = list_sites(net, input_size=(2, 4, 4))
    with torch.no_grad(), shuffle(net, "0", scope=scope, padding="circular", table=table):
        draws = net(batch) if scope == "sample" else torch.cat([net(batch) for _ in range(n)])
    expected = kernel_sum(net[0], x)
    small = collapse(net, "0", input_size=(2, 4, 4))
    assert torch.allclose(small(x[None])[0, :, 0, 0], expected, atol=1e-6)
    error = (draws.mean(0) - expected.view(3, 1, 1)) / (draws.std(0) / math.sqrt(n))
    assert error.abs().max() < 4  # standard errors, of 48 values

    with torch.no_grad(), shuffle(net, "0", scope="sample", table=table):
        zero_padded = net(x.expand(4000, 2, 4, 4)).mean(0)
    corner = (zero_padded - expected.view(3, 1, 1))[:, 0, 0] / (draws.std(0)[:, 0, 0] / math.sqrt(4000))
    assert corner.abs().max() > 10  # zero padding marks the borders: the test can fail


def settled(net: nn.Module) -> nn.Module:
    """Batch norms with statistics and weights of their own, so that they matter."""
    g = rng(11)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            for t, low, high in (
                (m.running_mean, -0.3, 0.3),
                (m.running_var, 0.5, 1.5),
                (m.bias, -0.3, 0.3),
                (m.weight, 0.7, 1.3),
            ):
                t.data.copy_(torch.rand(t.shape, generator=g) * (high - low) + low)
    return net.eval()


@pytest.mark.parametrize("stage_end", ["stride", "max_pool"])
def test_pool_with_circular_padding_is_the_collapsed_vgg(stage_end: str) -> None:
    """On constant maps a circular convolution is its kernel sum, and an unpadded max-pool changes nothing."""
    net = settled(make("vgg11", classes=5, width=1 / 16, stage_end=stage_end))
    x = torch.randn(3, 3, 32, 32, generator=rng())
    table = list_sites(net, input_size=(3, 32, 32))
    with torch.no_grad():
        plain = net(x)
        for cut in table.of_kind("conv"):
            small = collapse(net, cut, input_size=(3, 32, 32))
            with pool(net, f"{cut.name}:", padding="circular", table=table):
                pooled = net(x)
            torch.testing.assert_close(pooled, small(x), atol=1e-5, rtol=1e-5)
            assert not torch.allclose(pooled, plain, atol=1e-3)
        first = table.of_kind("conv")[0]
        with pool(net, f"{first.name}:", table=table):
            zero_padded = net(x)
        assert not torch.allclose(zero_padded, collapse(net, first, input_size=(3, 32, 32))(x), atol=1e-3)


def test_pool_with_circular_padding_is_the_collapsed_vgg_with_average_pools() -> None:
    net = settled(make("vgg11", classes=5, width=1 / 16))
    for name, m in list(net.features.named_children()):
        if isinstance(m, nn.MaxPool2d):
            setattr(net.features, name, nn.AvgPool2d(2))
    x, table = torch.randn(2, 3, 32, 32, generator=rng()), list_sites(net, input_size=(3, 32, 32))
    with torch.no_grad(), pool(net, "features.4:", padding="circular", table=table):
        torch.testing.assert_close(net(x), collapse(net, "features.4", input_size=(3, 32, 32))(x), atol=1e-5, rtol=1e-5)


def test_pool_with_circular_padding_is_the_collapsed_resnet_of_basic_blocks() -> None:
    net = settled(make("resnet20", classes=5, width=1 / 4))
    x, table = torch.randn(2, 3, 32, 32, generator=rng()), list_sites(net, input_size=(3, 32, 32))
    with torch.no_grad():
        for cut in ("layers.0.1", "layers.1.0", "layers.2.1"):
            with pool(net, f"{cut}:", padding="circular", table=table):
                pooled = net(x)
            torch.testing.assert_close(pooled, collapse(net, cut, input_size=(3, 32, 32))(x), atol=1e-5, rtol=1e-5)


def test_shuffling_commutes_with_global_pooling() -> None:
    maps = torch.randn(2, *SHAPE)
    for mode in ("per-channel", "shared", "block", "rows", "columns", "fixed"):
        shuffled = Shuffler(mode, rng())(maps)  # type: ignore[arg-type]
        torch.testing.assert_close(shuffled.mean((2, 3)), maps.mean((2, 3)))
    for mode in ("channel", "channel-per-position"):
        torch.testing.assert_close(Shuffler(mode, rng())(maps).mean(1), maps.mean(1))  # type: ignore[arg-type]


def test_a_one_by_one_convolution_commutes_with_a_shared_shuffle() -> None:
    conv, maps, index = nn.Conv2d(3, 5, 1), torch.randn(2, *SHAPE), draw("shared", SHAPE, rng())
    positions = index[: 4 * 6]
    with torch.no_grad():
        after = conv(maps).flatten(2)[..., positions].view(2, 5, 4, 6)
        torch.testing.assert_close(conv(permute(maps, index)), after)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": None}, "mode=None matches nothing"),
        ({"mode": "block", "block": 2}, r"block=2: give \(rows, columns\)"),
        ({"mode": "block", "block": (2,)}, r"block=\(2,\): give \(rows, columns\)"),
        ({"mode": "block", "block": (1.5, 2)}, r"block=\(1\.5, 2\): give \(rows, columns\)"),
        ({"seed": 1.5}, "seed=1.5: give a whole number"),
        ({"seed": "x"}, "seed='x': give a whole number"),
        ({"seed": None}, "seed=None: give a whole number"),
        ({"seed": 2**70}, "seed=.*: give a whole number"),
        ({"generator": 3}, r"generator=3: give a torch\.Generator"),
        ({"table": 3}, r"table=3: give ww\.sites\(net\)"),
        ({"sites": 1.5}, "sites=1.5: give a share above 0"),
    ],
)
def test_options_that_cannot_be_are_refused_by_name(options: dict[str, Any], said: str) -> None:
    net = make("vgg11", classes=3, width=1 / 16).eval()

    def run() -> None:
        with shuffle(net, **options), torch.no_grad():
            net(torch.zeros(1, 3, 32, 32))

    with pytest.raises(InputError, match=said):
        run()
