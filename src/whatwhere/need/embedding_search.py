"""The search for position embeddings: each is seen to act, on a copy of the network, on a drawn picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from whatwhere.layers import map_in
from whatwhere.maps import as_maps, prefix_of
from whatwhere.need.position_embeddings import Embedding, hands_out, put
from whatwhere.network import Network, as_module, running
from whatwhere.site import Site, Sites, evaluating
from whatwhere.site_table import list_sites
from whatwhere.surgery import copied

MOST_PREFIX = 8  # rows before those of the positions, as in `Site.layout`
SAME = 1e-3  # of what was added: what may be lost to rounding on the way to the first place that sees it


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
        for name, count in self._turning().items():
            found = Embedding(name, "rotary", count)
            if self._matters(list(found.changed(self.module, "permute", torch.arange(count).flip(0)))):
                yield found

    def _turning(self) -> dict[str, int]:
        """The modules that hand out angles, and of how many positions."""
        given: dict[str, int] = {}
        known = {count for count, _ in self.counts}

        def noting(name: str, own: Callable[..., Any]) -> Callable[..., Any]:
            def noted(*args: Any, **kwargs: Any) -> Any:
                value = own(*args, **kwargs)
                if (count := _positions_turned(value)) in known:
                    given[name] = count
                return value

            return noted

        asked = [(n, m, a) for n, m in self.module.named_modules() if n and (a := hands_out(m))]
        self._run([(m, attribute, noting(name, getattr(m, attribute))) for name, m, attribute in asked])
        return given

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
