"""Position embeddings: what tells a transformer's tokens apart, found by what it does and not by its name.

Three kinds are known. *Absolute* ones are added to the map: a parameter or buffer, whose change arrives as it is at the
first place that sees it. *Rotary* ones turn queries and keys: sines and cosines that a module hands out for each
position. *Relative* ones are a bias of attention: an index of offsets, equal along its diagonal, and mostly a table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import isqrt
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from whatwhere.layers import map_in
from whatwhere.maps import as_maps, prefix_of
from whatwhere.network import Network, as_module, running
from whatwhere.site import Site, Sites, evaluating
from whatwhere.site_table import list_sites
from whatwhere.surgery import copied

Kind = Literal["absolute", "rotary", "relative"]
How = Literal["zero", "mean", "permute"]
MOST_PREFIX = 8  # rows before those of the positions, as in `Site.layout`
SAME = 1e-3  # of what was added: what may be lost to rounding on the way to the first place that sees it


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
            attribute = "get_embed" if hasattr(owner, "get_embed") else "forward"
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


# ---- finding them


def embeddings_of(
    net: nn.Module | Network, *, table: Sites | None = None, input_size: tuple[int, int, int] | None = None
) -> tuple[Embedding, ...]:
    """The position embeddings of a network, found by trying on a copy, at one size of pictures.

    >>> ww.need.embeddings_of(ww.load_model("timm/eva02_tiny_patch14_224"))   # an absolute and a rotary one

    Args:
        net: the network; it is left alone.
        table: its sites, if at hand.
        input_size: (C, H, W) of one picture; None takes the table's, or the network's own.

    Returns:
        Absolute ones first. None of a network whose positions only pixels and padding tell apart, whose embedding is
        brought to this size by interpolation, is computed by convolutions, or is kept from an earlier pass.
    """
    places = table or list_sites(net, input_size=input_size)
    module = copied(as_module(net))
    weight = next(module.parameters(), torch.empty(0))
    drawn = torch.randn(1, *places.input_size, generator=torch.Generator().manual_seed(0)).to(weight)
    with evaluating(module), running(module, places.input_size):
        search = _Search(module, places, drawn)
        return (*search.absolute(), *search.rotary(), *search.relative())


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


class _Search:
    def __init__(self, module: nn.Module, table: Sites, picture: Tensor) -> None:
        self.module, self.table, self.picture = module, table, picture
        self.seen, self.output = self._run()
        self.counts = {(s.shape_in[1] * s.shape_in[2], prefix_of(s)) for s in table}

    def _run(self, changes: Sequence[tuple[nn.Module, str, Any]] = ()) -> tuple[dict[Site, Tensor], Any]:
        """The maps that enter the sites, and the output."""
        kept: dict[Site, Tensor] = {}
        calls: Counter[str] = Counter()
        at = {(s.module, s.call): s for s in self.table}

        def keep(name: str) -> Callable[..., None]:
            def hook(m: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
                calls[name] += 1
                site, x = at.get((name, calls[name])), map_in(args, kwargs)
                if site is not None and x is not None:
                    kept[site] = x.clone()  # a layer may work in place

            return hook

        with ExitStack() as stack:
            for name in {s.module for s in self.table}:
                handle = self.module.get_submodule(name).register_forward_pre_hook(keep(name), with_kwargs=True)
                stack.callback(handle.remove)
            stack.enter_context(put(changes))
            return kept, self.module(self.picture)

    def _matters(self, changes: Sequence[tuple[nn.Module, str, Any]]) -> bool:
        pairs = zip(tree_leaves(self.output), tree_leaves(self._run(changes)[1]), strict=True)
        return any(not torch.equal(a, b) for a, b in pairs if isinstance(a, Tensor))

    # ---- absolute

    def absolute(self) -> Iterator[Embedding]:
        """Parameters and buffers that are added to a map, position by position."""
        shapes = dict.fromkeys(s.shape_in for s in self.table)
        held = (*self.module.named_parameters(), *self.module.named_buffers())
        for name, tensor in held:
            if tensor.is_floating_point():
                fits = (e for shape in shapes for e in _as_absolute(name, tensor, shape))
                yield from [e for e in fits if self._is_added(e, tensor)][:1]

    def _is_added(self, embedding: Embedding, tensor: Tensor) -> bool:
        scale = max(float(tensor.std()), 0.02)
        more = scale * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1)).to(tensor)
        owner, _, attribute = embedding.name.rpartition(".")
        seen, _ = self._run([(self.module.get_submodule(owner), attribute, tensor.detach() + more)])
        first = next((s for s in self.table if s in seen and not torch.equal(seen[s], self.seen[s])), None)
        if first is None or first.shape_in[1] * first.shape_in[2] != embedding.positions:
            return False
        arrived = as_maps(seen[first] - self.seen[first], first)[0].flatten(1).t()
        expected = embedding.rows(more)[embedding.prefix :]
        return arrived.shape == expected.shape and float((arrived - expected).abs().max()) <= SAME * scale

    # ---- rotary

    def rotary(self) -> Iterator[Embedding]:
        """Modules that hand out sines and cosines of each position."""
        for name, m in self.module.named_modules():
            if name and (count := self._turns(m)):
                found = Embedding(name, "rotary", count)
                if self._matters(list(found.changed(self.module, "permute", torch.arange(count).flip(0)))):
                    yield found

    def _turns(self, m: nn.Module) -> int:
        """How many positions a module gives angles of; 0 if it gives none."""
        given: list[Any] = []
        attribute = "get_embed" if callable(getattr(m, "get_embed", None)) else "forward"
        constant = next((b for b in m.buffers() if b.is_floating_point()), None) is not None
        if attribute == "forward" and (next(m.children(), None) is not None or not constant):
            return 0
        own = getattr(m, attribute)

        def noted(*args: Any, **kwargs: Any) -> Any:
            given.append(own(*args, **kwargs))
            return given[-1]

        self._run([(m, attribute, noted)])
        known = {count for count, _ in self.counts}
        return next((count for g in given if (count := _positions_turned(g)) in known), 0)

    # ---- relative

    def relative(self) -> Iterator[Embedding]:
        """Attention with an index of offsets."""
        for name, m in self.module.named_modules():
            for attribute, index in _whole_numbers(m):
                found = self._of_offsets(f"{name}.{attribute}" if name else attribute, m, index)
                if found and self._matters(list(found.changed(self.module, "permute", _reversed_but_one(found)))):
                    yield found

    def _of_offsets(self, name: str, m: nn.Module, index: Tensor) -> Embedding | None:
        side = isqrt(index.numel())
        if side < 2 or side**2 != index.numel():
            return None
        prefix = next((p for count, p in sorted(self.counts) if p and count + p == side), 0)
        pairs = index.reshape(side, side)[prefix:, prefix:]
        distinct = pairs.unique().numel()
        if pairs.diagonal().unique().numel() != 1 or not 1 < distinct < pairs.numel():
            return None
        rows = int(index.max()) + 1
        tables = [n for n, p in m.named_parameters(recurse=False) if p.ndim == 2 and rows in p.shape]
        return Embedding(name, "relative", side - prefix, prefix, table=tables[0] if tables else "")


def _as_absolute(name: str, tensor: Tensor, shape: tuple[int, int, int]) -> Iterator[Embedding]:
    """The ways in which a tensor may hold a vector for each position of a map (C, h, w)."""
    c, h, w = shape
    axes = list(tensor.shape)
    while axes and axes[0] == 1:
        axes.pop(0)
    if axes == [h, w, c]:
        yield Embedding(name, "absolute", h * w, form="last")
    if axes == [c, h, w]:
        yield Embedding(name, "absolute", h * w, form="first")
    if len(axes) == 2 and axes[1] == c and 0 <= axes[0] - h * w <= MOST_PREFIX:
        yield Embedding(name, "absolute", h * w, axes[0] - h * w)


def _positions_turned(given: Any) -> int:
    """How many positions there are angles of; 0 if these are no sines and cosines."""
    several = isinstance(given, tuple | list) and len(given) == 2 and all(isinstance(t, Tensor) for t in given)
    if not (several or isinstance(given, Tensor)):
        return 0
    parts = given.chunk(2, -1) if isinstance(given, Tensor) else given
    if parts[0].ndim < 2 or parts[0].shape != parts[1].shape or not parts[0].is_floating_point():
        return 0
    one = parts[0].square() + parts[1].square()
    return int(parts[0].shape[-2]) if bool(((one - 1).abs() < SAME).all()) else 0


def _whole_numbers(m: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The tensors of whole numbers that a module holds itself."""
    for name, value in (*m.named_buffers(recurse=False), *m.__dict__.items()):
        if isinstance(value, Tensor) and value.dtype in (torch.int64, torch.int32):
            yield name, value


def _reversed_but_one(embedding: Embedding) -> Tensor:
    """An order that no symmetry of a square undoes: two positions trade places."""
    order = torch.arange(embedding.positions)
    order[[0, 1]] = order[[1, 0]]
    return order
