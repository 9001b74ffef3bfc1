"""What lets positions see each other behind a place: every operator by name, found by trying.

Some rows of a map, then some columns, are made not a number; which of these trials reach a value tells which positions
it depends on: of the rows and columns in the middle one by one, of others by the digits of their numbers. An operator
mixes positions where one of its values depends on more than any value it was given. That is tried anew from each map
that nothing goes round, so that what was mixed before hides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_leaves

from whatwhere.graph.flow import Flow, ValueOf
from whatwhere.graph.mixing import Places
from whatwhere.maps import as_maps, from_maps
from whatwhere.site import Site, evaluating

ALONE = 8  # rows, and columns, that are tried one by one
Instead = Mapping[fx.Node, Callable[[Tensor], Tensor]]


def mixers(places: Places, entry: fx.Node, instead: Instead) -> list[fx.Node]:
    """The operators behind a place whose values depend on more positions than what they are given, in order.

    Args:
        places: of the network.
        entry: the place; nothing goes round it, and a site is there.
        instead: what is computed in the place of some nodes, from their first input.
    """
    return [n for start, end in _stretches(places, entry) for n in _Stretch(places, start, end, instead).mixing()]


def named(flow: Flow, nodes: list[fx.Node]) -> tuple[str, ...]:
    """Operators for a person: modules with their kind, others by the module that they are written in."""
    found: dict[str, list[str]] = {}
    for node in nodes:
        where, what = _where(flow, node)
        found.setdefault(where, []).append(what)
    return tuple(f"{where} ({', '.join(dict.fromkeys(what))})" for where, what in found.items())


def _where(flow: Flow, node: fx.Node) -> tuple[str, str]:
    if node.op == "call_module":
        return str(node.target), type(flow.module.get_submodule(str(node.target))).__name__
    owners = [name for name in flow.owners(node) if name]
    name = str(getattr(node.target, "__name__", node.target))
    return (owners[-1] if owners else "its forward"), name


def _stretches(places: Places, entry: fx.Node) -> Iterator[tuple[fx.Node, fx.Node]]:
    """From each map that nothing goes round to the next, the last to the output."""
    narrows = places.flow.narrows
    maps = [n for n in narrows[narrows.index(entry) :] if n in places.at]
    yield from zip(maps, [*maps[1:], places.flow.output], strict=True)


class _Stretch:
    """What lies between two places.

    Args:
        places: of the network.
        start: a map that nothing goes round.
        end: a later place of that kind.
        instead: as of `mixers`.
    """

    def __init__(self, places: Places, start: fx.Node, end: fx.Node, instead: Instead) -> None:
        self.flow, self.start, self.end, self.instead = places.flow, start, end, instead
        self.site: Site = places.at[start][0]
        between = self.flow.after(start, until=end)
        self.inside = [n for n in self.flow.nodes if n in between]
        self.seen: dict[fx.Node, list[Tensor]] = {}  # the trials that reach each value of a node

    def mixing(self) -> Iterator[fx.Node]:
        """The nodes that mix positions, in order."""
        _, h, w = self.site.shape_in
        with evaluating(self.flow.module):
            for i, blank in enumerate(_blanks(h, w)):
                self._try(i, blank)
        kinds = {n: _kinds(values) for n, values in self.seen.items()}
        for node in self.inside:
            given = set().union(*(kinds.get(s, set()) for s in self.flow.sources[node]))
            if kinds.get(node, set()) - given - {0}:
                yield node

    def _try(self, trial: int, blank: Tensor) -> None:
        """Note what is not a number where some positions of the map are not."""

        def step(node: fx.Node, value_of: ValueOf) -> Any:
            known = self.instead.get(node)
            given = known(value_of(self.flow.sources[node][0])) if known else self.flow.step(node, value_of)
            self._note(node, given, trial)
            return given

        shape = self.flow.shapes[self.start]
        one = shape if self.flow.asked else (1, *shape[1:])  # one picture, if the graph holds no number of pictures
        x = torch.rand(one, generator=torch.Generator().manual_seed(0)).to(self.flow.example())
        maps = as_maps(x, self.site).masked_fill(blank.to(x.device), torch.nan)
        drawn = from_maps(maps, x, self.site)
        self._note(self.start, drawn, trial)
        self.flow.run({self.start: drawn}, [self.end], step)

    def _note(self, node: fx.Node, given: Any, trial: int) -> None:
        reached = [_compact(t.isnan()).long() << trial for t in tree_leaves(given) if _is_number(t)]
        before = self.seen.get(node)
        self.seen[node] = [a | b for a, b in zip(before, reached, strict=True)] if before else reached


def _blanks(h: int, w: int) -> Iterator[Tensor]:
    """The positions that are made not a number in each trial: some rows, or some columns."""
    for row in _some(h):
        yield row[:, None].expand(h, w)
    for column in _some(w):
        yield column.expand(h, w)


def _some(count: int) -> Iterator[Tensor]:
    """Of the numbers below `count` each of those in the middle; of many also all with one digit, 0 or 1.

    Digits are those of Gray's code, in which neighbours differ by one: few are undecided in a small window.
    """
    numbers, first = torch.arange(count), max(0, (count - ALONE) // 2)
    yield from (numbers == n for n in range(first, min(count, first + ALONE)))
    if count > ALONE:
        gray = numbers ^ (numbers >> 1)
        for digit in range(int(gray.max()).bit_length()):
            ones = (gray >> digit & 1).bool()
            yield from (~ones, ones)


def _is_number(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _compact(reached: Tensor) -> Tensor:
    """Of values that are reached alike in all channels, which are on the second or the last axis, those of one."""
    for axis in (1, -1):
        if reached.ndim > 1 and bool((reached == (first := reached.narrow(axis, 0, 1))).all()):
            reached = first
    return reached


def _kinds(values: list[Tensor]) -> set[int]:
    return {int(k) for v in values for k in v.unique()}
