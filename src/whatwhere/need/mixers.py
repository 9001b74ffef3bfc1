"""What lets positions see each other behind a place: every operator by name, found by trying.

The rows and columns of a map are numbered. For each binary digit of these numbers all positions where it is 0, and then
all where it is 1, are made not a number; which of this reaches a value tells which positions the value depends on, as
far as digits tell. An operator mixes positions where one of its values depends on more than any value it was given.
That is tried anew from each map that nothing goes round, so that what was mixed before hides nothing.
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
        self.seen: dict[fx.Node, list[Tensor]] = {}  # the digits that reach each value of a node

    def mixing(self) -> Iterator[fx.Node]:
        """The nodes that mix positions, in order."""
        _, h, w = self.site.shape_in
        with evaluating(self.flow.module):
            for i, blank in enumerate(_digits(h, w)):
                self._try(i, blank)
        kinds = {n: _kinds(values) for n, values in self.seen.items()}
        for node in self.inside:
            given = set().union(*(kinds.get(s, set()) for s in self.flow.sources[node]))
            if kinds.get(node, set()) - given - {0}:
                yield node

    def _try(self, digit: int, blank: Tensor) -> None:
        """Note what is not a number where some positions of the map are not."""

        def step(node: fx.Node, value_of: ValueOf) -> Any:
            known = self.instead.get(node)
            given = known(value_of(self.flow.sources[node][0])) if known else self.flow.step(node, value_of)
            self._note(node, given, digit)
            return given

        x = torch.rand(self.flow.shapes[self.start], generator=torch.Generator().manual_seed(0))
        x = x.to(self.flow.example())
        maps = as_maps(x, self.site).masked_fill(blank.to(x.device), torch.nan)
        drawn = from_maps(maps, x, self.site)
        self._note(self.start, drawn, digit)
        self.flow.run({self.start: drawn}, [self.end], step)

    def _note(self, node: fx.Node, given: Any, digit: int) -> None:
        reached = [t.isnan().long() << digit for t in tree_leaves(given) if _is_number(t)]
        before = self.seen.get(node)
        self.seen[node] = [a | b for a, b in zip(before, reached, strict=True)] if before else reached


def _digits(h: int, w: int) -> Iterator[Tensor]:
    """For each digit of the numbers of rows and columns the positions where it is 0, and those where it is 1.

    In Gray's code, in which neighbours differ by one digit: few digits are undecided in a small window, wherever it is.
    """
    rows, columns = (torch.arange(n) ^ (torch.arange(n) >> 1) for n in (h, w))
    for numbers in (rows[:, None].expand(h, w), columns.expand(h, w)):
        for digit in range((int(numbers.max())).bit_length()):
            ones = (numbers >> digit & 1).bool()
            yield from (~ones, ones)


def _is_number(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _kinds(values: list[Tensor]) -> set[int]:
    return {int(k) for v in values for k in v.unique()}
