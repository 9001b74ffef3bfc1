"""The proof that gates stand where they should: with gates that give zeros, every branch is gone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

from whatwhere.errors import InputError
from whatwhere.graph.flow import Flow, ValueOf
from whatwhere.graph.merges import ADDED, Merge
from whatwhere.site import evaluating
from whatwhere.use.places import Place, Places
from whatwhere.use.recalibrated import Recalibrated

Values = Mapping[fx.Node, Tensor]


def check_closed(places: Places, module: nn.Module, inserted: Sequence[Place]) -> None:
    """Run a network with gates that give zeros: sums must be their other terms, and new maps of dense layers zero.

    Args:
        places: of the plain network.
        module: the network with gates.
        inserted: those places at the ends of branches where gates are.

    Raises:
        InputError: naming the gates for which this is not so.
    """
    merges = [m for m in places.merges if any(places.of_branch(b) in inserted for b in m.branches)]
    wanted = {n for m in merges for n in (m.node, *m.terms)}
    with _giving_zeros(module, inserted), evaluating(module), evaluating(places.flow.module):
        values = _values(places.flow, module, inserted, wanted)
    wrong = [p.module for m in merges for p in _open(places, m, values, inserted)]
    if wrong:
        raise InputError(
            f"the gates of {', '.join(dict.fromkeys(wrong))} do not stand at the ends of their branches: with gates "
            "that give zeros, the branches still do something. Choose others by sites=..."
        )


def _open(places: Places, merge: Merge, values: Values, inserted: Sequence[Place]) -> Iterator[Place]:
    """The gates of a merge that do not shut its branches."""
    gated = {b.end: p for b in merge.branches if (p := places.of_branch(b)) in inserted and p}
    kept = [values[t] for t in merge.terms if t not in gated]
    for end, place in gated.items():
        adds_nothing = merge.kind != ADDED or _is_sum(values[merge.node], kept, place)
        if _on_map(values[end], place).any() or not adds_nothing:
            yield place


def _is_sum(value: Tensor, terms: Iterable[Tensor], place: Place) -> bool:
    total, *others = [_on_map(t, place) for t in terms]
    for other in others:
        total = total + other
    # Exactly, since a branch may be scaled to a millionth; the order of three numbers or more changes their sum.
    if len(others) < 2:
        return torch.equal(_on_map(value, place), total)
    return torch.allclose(_on_map(value, place), total)


def _on_map(x: Tensor, place: Place) -> Tensor:
    """A value without the tokens that are no positions."""
    prefix = int(place.at.layout.partition("+")[2] or 0)
    return x[:, prefix:] if prefix and x.ndim == 3 else x


@contextmanager
def _giving_zeros(module: nn.Module, inserted: Iterable[Place]) -> Iterator[None]:
    wrapped = [_wrapped(module, place) for place in inserted]
    handles = [
        w.get_submodule("gate").register_forward_hook(lambda _m, _a, out: torch.zeros_like(out)) for w in wrapped
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _wrapped(module: nn.Module, place: Place) -> Recalibrated:
    found = module.get_submodule(place.module)
    assert isinstance(found, Recalibrated)
    return found


def _values(flow: Flow, module: nn.Module, inserted: Iterable[Place], wanted: set[fx.Node]) -> Values:
    """What nodes give with the gates in; each as it is at first, since it may be changed in place later."""
    gates = {node: _wrapped(module, place) for place in inserted for node in place.nodes}
    pictures = torch.randn(flow.shapes[flow.picture], generator=torch.Generator().manual_seed(0))
    pictures = pictures.to(next(module.parameters(), pictures))
    seen: dict[fx.Node, Tensor] = {flow.picture: pictures}

    def step(node: fx.Node, value_of: ValueOf) -> Any:
        value = flow.step(node, value_of)
        value = gates[node].weigh(value) if node in gates else value
        if node in wanted:
            seen[node] = value.clone()
        return value

    flow.run({flow.picture: pictures}, wanted, step)
    return seen
