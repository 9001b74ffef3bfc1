"""What is added to what it was computed from, and what is concatenated with it: by hand."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.ao.nn.quantized import FloatFunctional

from small_nets import HAND, LIBRARIES, PAPERS, SIZE, Forked, drawn
from whatwhere.graph.flow import flow_of
from whatwhere.graph.merges import ADDED, CONCATENATED, DEEPER, HEADS, LINEAR, NO_LAYER, PARALLEL, PARTS, Merge, merges
from whatwhere.graph.trials import name_of


class Parts(nn.Module):
    """Layers under names, and what to do with them."""

    def __init__(self, do: Callable[["Parts", Tensor], Tensor]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.a, self.b = (nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 1)) for _ in range(2))
        self.k1, self.k2 = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1)
        self.down = nn.Sequential(nn.Conv2d(4, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))
        self.norm, self.drop, self.pool = nn.BatchNorm2d(4), nn.Dropout(0.2), nn.MaxPool2d(2)
        self.mix, self.lower = nn.Conv2d(8, 4, 1), nn.Conv2d(2, 2, 3, padding=1)
        self.scale, self.sum = nn.Parameter(torch.full((4, 1, 1), 0.3)), FloatFunctional()
        self.do = do

    def forward(self, x: Tensor) -> Tensor:
        return self.do(self, self.stem(x))


def found(do: Callable[[Parts, Tensor], Tensor]) -> list[Merge]:
    return list(merges(flow_of(drawn(lambda: Parts(do)), input_size=SIZE)))


def in_place(m: Parts, x: Tensor) -> Tensor:
    y = m.a(x)
    y += x
    return F.relu(y, inplace=True)


def shuffled(m: Parts, x: Tensor) -> Tensor:
    left, right = x.chunk(2, 1)
    return torch.cat([left, m.lower(right)], 1)


def hierarchical(m: Parts, x: Tensor) -> Tensor:
    left, right = x.chunk(2, 1)
    return F.relu(m.lower(left)) + right


RESIDUAL = {  # what is done, where branches start, where they end
    "plain": (lambda m, x: x + m.a(x), "stem", ["a_2"]),
    "the other way round": (lambda m, x: m.a(x) + x, "stem", ["a_2"]),
    "in place": (in_place, "stem", ["a_2"]),
    "torch.add": (lambda m, x: torch.add(m.a(x), x, alpha=0.5), "stem", ["a_2"]),
    "a method": (lambda m, x: m.a(x).add_(x), "stem", ["a_2"]),
    "of the quantised": (lambda m, x: m.sum.add(m.a(x), x), "stem", ["a_2"]),
    "builtin sum": (lambda m, x: sum([x, m.a(x)]), "stem", ["a_2"]),
    "scaled": (lambda m, x: x * 2 + m.drop(m.a(x) * m.scale), "stem", ["drop"]),
    "two branches": (lambda m, x: x + m.a(x) + m.b(x), "stem", ["a_2", "b_2"]),
    "a chain": (lambda m, x: x + (y := m.a(x)) + m.b(y), "stem", ["a_2", "b_2"]),
    "behind a norm": (lambda m, x: m.norm(x) + m.a(x), "stem", ["a_2"]),
    "projected": (lambda m, x: m.norm(m.k1(x)) + m.a(x), "stem", ["a_2"]),
    "projected after the activation": (lambda m, x: m.k1(y := m.norm(x).relu()) + m.a(y), "relu", ["a_2"]),
    "pooled and projected": (lambda m, x: m.k1(m.pool(x)) + m.down(x), "stem", ["down_2"]),
    "both activated": (lambda m, x: m.k1(x).relu() + m.a(x), "stem", ["a_2"]),
    "a mere linear branch": (lambda m, x: x + m.k2(x), "stem", ["k2"]),
    "padded": (lambda m, x: F.pad(x, (0, 0, 0, 0, 0, 4)) + torch.cat([m.a(x), m.b(x)], 1), "stem", ["cat"]),
}


@pytest.mark.parametrize("name", RESIDUAL)
def test_residual_additions(name: str) -> None:
    do, start, ends = RESIDUAL[name]
    merge = next(m for m in found(do) if m.kind == ADDED)
    assert [b.end.name for b in merge.branches] == ends
    assert {b.start.name for b in merge.branches} == {start}
    assert not merge.why
    assert all(b.inside[-1] is b.end and b.start not in b.inside for b in merge.branches)
    assert set(merge.terms) == {*merge.shortcuts, *(b.end for b in merge.branches)}
    assert len(merge.shortcuts) == 1


NOT = {
    "parallel": (lambda m, x: m.a(x) + m.b(x), ADDED, PARALLEL),
    "parallel kernels": (lambda m, x: m.k1(x) + m.k2(x) + m.norm(x), ADDED, LINEAR),
    "parallel kernels beside the value": (lambda m, x: x + m.k1(x) + m.k2(x), ADDED, LINEAR),
    "a value and its norm": (lambda m, x: x + x * x.norm(dim=(2, 3), keepdim=True), ADDED, NO_LAYER),
    "parts of one value": (hierarchical, ADDED, PARTS),
    "concatenated in parallel": (lambda m, x: torch.cat([m.a(x), m.b(x)], 1), CONCATENATED, PARALLEL),
    "half is left": (shuffled, CONCATENATED, PARALLEL),
    "a U": (lambda m, x: torch.cat([F.interpolate(m.down(x), scale_factor=2), x], 1), CONCATENATED, DEEPER),
    "behind an addition": (lambda m, x: torch.cat([x, x + m.a(x)], 1), CONCATENATED, DEEPER),
}


@pytest.mark.parametrize("name", NOT)
def test_what_is_joined_otherwise_has_no_branches_and_says_why(name: str) -> None:
    do, kind, why = NOT[name]
    merge = found(do)[-1]
    assert (merge.kind, merge.branches, merge.why) == (kind, (), why)


def test_what_is_no_sum_of_maps_is_passed_over() -> None:
    assert not found(lambda m, x: (x + m.scale + 1).mean((2, 3)) + m.a(x).mean((2, 3)))
    assert not found(lambda m, x: x + m.a(x).mean((2, 3), keepdim=True))


def test_dense_layers_are_counted_once_however_often_they_are_concatenated() -> None:
    def dense(m: Parts, x: Tensor) -> Tensor:
        y = m.a(x)
        z = m.mix(torch.cat([x, y], 1))
        return torch.cat([x, y, z], 1)

    first, second = found(dense)
    assert [b.end.name for b in first.branches] == ["a_2"]
    assert [b.end.name for b in second.branches] == ["mix"]
    assert [n.name for n in second.branches[0].inside] == ["cat", "mix"]


def test_a_concatenation_inside_of_a_residual_block_is_a_part_of_its_branch() -> None:
    class Ghost(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(4, 2, 1), nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            y = F.relu(self.a(x))
            return x + torch.cat([y, self.b(y)], 1)

    flow = flow_of(drawn(lambda: nn.Sequential(nn.Conv2d(3, 4, 1), Ghost())), input_size=SIZE)
    joined, added = merges(flow)
    assert (joined.kind, joined.branches) == (CONCATENATED, ())
    assert [b.block for b in added.branches] == ["1"]


def test_blocks_are_the_modules_in_which_a_branch_meets_its_shortcut() -> None:
    net = drawn(lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(Forked(4), Forked(4, 2))))
    assert [b.block for m in merges(flow_of(net, input_size=SIZE)) for b in m.branches] == ["1.0", "1.1"]


COUNTS = {
    "averaged": 2,
    "shortcut": 1,
    "flattened": 0,
    "functional": 1,
    "squeezed": 1,
    "vgg11": 0,
    "resnet": 4,
    "bottlenecks": 4,
    "densenet": 4,
    "efficientnet": 0,  # none of its blocks has a shortcut
    "byobnet": 4,
    "preact": 4,
    "convnext": 9,
    "nfnet": 4,
    "coatnet": 8,
    "vit": 12,
    "swin": 4,
}


@pytest.mark.parametrize("name", COUNTS)
def test_branches_of_every_family_are_counted(name: str) -> None:
    net = drawn({**HAND, **PAPERS, **LIBRARIES}[name])
    assert sum(len(m.branches) for m in merges(flow_of(net, input_size=SIZE))) == COUNTS[name]


@pytest.mark.parametrize("name", ["resnet", "preact", "convnext", "vit"])
def test_a_value_that_a_branch_leaves_decides_the_sum_when_the_branch_is_zero(name: str) -> None:
    """Without the branch, what is added depends on the start alone: other pictures with the same start change nothing."""
    flow = flow_of(drawn({**PAPERS, **LIBRARIES}[name]), input_size=SIZE)
    for merge in merges(flow):
        (branch,) = merge.branches
        start = torch.randn(flow.shapes[branch.start])
        with torch.no_grad():
            shut = {branch.start: start, branch.end: torch.zeros(flow.shapes[branch.end])}
            value = flow.run(shut, [merge.node])[merge.node]
            expected = flow.run({branch.start: start}, merge.shortcuts)[merge.shortcuts[0]]
        assert torch.equal(value, expected), name_of(merge.node)


class Pyramid(nn.Module):
    """A skip of a feature pyramid: a projected map, and what residual blocks made of it in smaller maps."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.block = nn.Conv2d(4, 4, 3, 2, 1), Forked(4)
        self.side, self.deep = nn.Conv2d(4, 2, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.side(x) + F.interpolate(self.deep(self.block(self.down(x))), scale_factor=2)


class Heads(nn.Module):
    """Sums of attention, whose first axis is pictures times heads."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = x.flatten(2).mT.reshape(len(x) * 4, -1, 8)
        return (self.a(y) + self.b(torch.relu(self.b(y)))).view(x.shape)


@pytest.mark.parametrize(("part", "why"), [(Pyramid, DEEPER), (Heads, HEADS)])
def test_sums_that_are_of_no_block_say_so(part: type[nn.Module], why: str) -> None:
    flow = flow_of(drawn(lambda: nn.Sequential(nn.Conv2d(3, 4, 1), part())), input_size=SIZE)
    last = merges(flow)[-1]
    assert (last.branches, last.why) == ((), why)
