"""Position embeddings: what tells a transformer's tokens apart, found by what it does and not by its name.

Three kinds are known. *Absolute* ones are added to the map: a parameter or buffer, whose change arrives as it is at the
first place that sees it. *Rotary* ones turn queries and keys: sines and cosines that a module hands out for each
position. *Relative* ones are a bias of attention: an index of offsets, equal along its diagonal, and mostly a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from whatwhere.interventions import Intervention, When
from whatwhere.site import tracing

Kind = Literal["absolute", "rotary", "relative"]
How = Literal["zero", "mean", "permute"]


@dataclass(frozen=True)
class Embedding:
    """One position embedding of a network.

    Attributes:
        name: of the parameter, the buffer or the module.
        kind: absolute, rotary or relative.
        positions: how many it distinguishes; of attention in windows those of a window.
        prefix: how many of its rows come before them, of a class token, say; these stay as they are.
        form: how an absolute one lies in memory: rows, or grid with the channels first or last.
        table: of a relative one, the table's attribute beside the index; "" if the bias is computed.
    """

    name: str
    kind: Kind
    positions: int
    prefix: int = 0
    form: Literal["rows", "first", "last"] = "rows"
    table: str = ""

    def changed(self, module: nn.Module, how: How, order: Tensor) -> Iterator[tuple[nn.Module, str, Any]]:
        """What to put in the place of which attribute of which module.

        Args:
            module: the network.
            how: `zero`, `mean`, or `permute`.
            order: (positions,): position i gets what that of `order[i]` had.
        """
        if self.kind == "rotary":
            owner = module.get_submodule(self.name)
            attribute = hands_out(owner)
            yield owner, attribute, _turned(getattr(owner, attribute), self.positions, how, order)
            return
        holder, _, attribute = self.name.rpartition(".")
        held = module.get_submodule(holder)
        given = getattr(held, attribute)
        if self.kind == "absolute":
            yield held, attribute, self._rows_changed(given, how, order.to(given.device))
        else:
            yield from self._bias_changed(held, attribute, given, how, order.to(given.device))

    def rows(self, given: Tensor) -> Tensor:
        """An absolute embedding as (prefix + positions, C)."""
        if self.form == "first":
            return given.reshape(-1, self.positions).t()
        return given.reshape(self.prefix + self.positions, -1)

    def _rows_changed(self, given: Tensor, how: How, order: Tensor) -> Tensor:
        rows = self.rows(given)
        patches = _put(rows[self.prefix :], how, order)
        new = torch.cat([rows[: self.prefix], patches])
        return (new.t() if self.form == "first" else new).reshape(given.shape)

    def _bias_changed(
        self, held: nn.Module, attribute: str, index: Tensor, how: How, order: Tensor
    ) -> Iterator[tuple[nn.Module, str, Tensor]]:
        """Another index of offsets, or another table."""
        side = self.prefix + self.positions
        pairs = index.reshape(side, side)
        patches = pairs[self.prefix :, self.prefix :]
        if how == "permute" or not self.table:
            new = pairs.clone()
            # One entry for all pairs where the bias is computed: softmax takes no notice of what all pairs share.
            same = patches[0, 0].expand_as(patches)
            new[self.prefix :, self.prefix :] = patches[order][:, order] if how == "permute" else same
            yield held, attribute, new.reshape(index.shape)
            return
        table = getattr(held, self.table)
        lookup = table if len(table) > int(index.max()) else table.t()
        used = patches.flatten()
        value = lookup[used].mean(0) if how == "mean" else torch.zeros_like(lookup[0])
        entries = torch.zeros(len(lookup), dtype=torch.bool, device=table.device).index_fill(0, used, True)
        new = torch.where(entries[:, None], value, lookup)
        yield held, self.table, new if lookup is table else new.t()


def hands_out(m: nn.Module) -> str:
    """By which method a module may hand out angles: timm's, or the forward of a leaf that has learned nothing."""
    if callable(getattr(m, "get_embed", None)):
        return "get_embed"
    leaf = next(m.children(), None) is None and next(m.parameters(), None) is None
    return "forward" if leaf and any(b.is_floating_point() for b in m.buffers()) else ""


def _put(rows: Tensor, how: How, order: Tensor) -> Tensor:
    """(positions, C) zeroed, averaged or in another order."""
    if how == "permute":
        return rows[order]
    return torch.zeros_like(rows) if how == "zero" else rows.mean(0, keepdim=True).expand_as(rows)


def _turned(given: Callable[..., Any], positions: int, how: How, order: Tensor) -> Callable[..., Any]:
    """A function that gives sines and cosines, with others in their place."""

    def changed(*args: Any, **kwargs: Any) -> Any:
        found = given(*args, **kwargs)
        if how == "permute":
            return tree_map(lambda t: t.index_select(-2, order.to(t.device)) if isinstance(t, Tensor) else t, found)
        sine, cosine = angles_in(found)
        if how == "zero":
            new_sine, new_cosine = torch.zeros_like(sine), torch.ones_like(cosine)
        else:  # the same turn for all: the direction of the mean
            turn = torch.atan2(sine.mean(-2, keepdim=True), cosine.mean(-2, keepdim=True)).expand_as(sine)
            new_sine, new_cosine = turn.sin(), turn.cos()
        if isinstance(found, Tensor):
            return torch.cat([new_sine, new_cosine], -1)
        return (new_sine, new_cosine) if found[0] is sine else (new_cosine, new_sine)

    return changed


def angles_in(found: Any) -> tuple[Tensor, Tensor]:
    """Sines and cosines, each (..., positions, angles), in what a rotary embedding hands out.

    One tensor holds sines, then cosines (timm); of a pair the cosines are larger in sum: most angles are small.
    """
    pair = found.chunk(2, -1) if isinstance(found, Tensor) else tuple(found)
    if isinstance(found, Tensor) or float(pair[0].sum()) <= float(pair[1].sum()):
        return pair[0], pair[1]
    return pair[1], pair[0]


@contextmanager
def put(changes: Sequence[tuple[nn.Module, str, Any]]) -> Iterator[None]:
    """Other attributes of modules while the block lasts; an instance's own come before parameters and buffers."""
    with ExitStack() as undo:
        for owner, attribute, value in changes:
            undo.callback(_put_back, owner, attribute, owner.__dict__.get(attribute))
            owner.__dict__[attribute] = value
        yield


def _put_back(owner: nn.Module, attribute: str, before: Any) -> None:
    if before is None:
        owner.__dict__.pop(attribute, None)
    else:
        owner.__dict__[attribute] = before


class EmbeddingRemoval(Intervention):
    """Gives embeddings other values in every forward pass of the whole network, until closed.

    Args:
        module: the network.
        embeddings: of it.
        how: zero, mean or permute them.
        generator: source of the orders.
        fixed: draw each order once.
        when: act in both modes, in training only, or in evaluation only.
    """

    def __init__(
        self,
        module: nn.Module,
        embeddings: Sequence[Embedding],
        how: How,
        generator: torch.Generator,
        *,
        fixed: bool = False,
        when: When = "always",
    ) -> None:
        super().__init__(module, {}, when=when)
        self.embeddings, self.how, self.generator, self.fixed = tuple(embeddings), how, generator, fixed
        self._orders: dict[int, Tensor] = {}
        self._in_place = ExitStack()

    @property
    def matched(self) -> tuple[str, ...]:
        """The names of the embeddings."""
        return tuple(e.name for e in self.embeddings)

    def _install(self) -> None:
        super()._install()
        self._hook(self.module.register_forward_hook(lambda *_: self._in_place.close(), always_call=True))
        self._undo.append(self._in_place.close)

    def _begin(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        super()._begin(module, args)
        if tracing.get() or not self._active(module):
            return
        self._in_place.close()
        self._orders = self._orders if self.fixed else {}
        for each in self.embeddings:
            order = self._order(each.positions)
            self._in_place.enter_context(put(list(each.changed(self.module, self.how, order))))
            self.ran[each.name] += 1

    def _order(self, positions: int) -> Tensor:
        """The same for all embeddings of as many positions."""
        if positions not in self._orders:
            self._orders[positions] = torch.randperm(positions, generator=self.generator)
        return self._orders[positions]
