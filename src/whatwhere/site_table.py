"""The table of a network's places, from one forward pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from whatwhere.attention import AttentionCalls
from whatwhere.errors import InputError
from whatwhere.graph.flow import flow_of
from whatwhere.graph.mixing import Places
from whatwhere.layers import CHANNELS_FIRST_LEAVES, certain_layout, chw, kind_of, leaf_flops, map_in
from whatwhere.network import Network, as_module, check_finite, running
from whatwhere.site import Site, Sites, blank_picture, evaluating, expected_input_size, tracing


def list_sites(net: nn.Module | Network, *, input_size: tuple[int, int, int] | None = None) -> Sites:
    """Every place where a spatial map flows through a network, found by running it once on one blank picture.

    The network is not changed: hooks are removed, training flags and the random state are put back.

    Args:
        net: a module from pictures to scores, or a `Network`.
        input_size: (C, H, W) of one input; None takes the network's own, or 224 x 224.

    Returns:
        The sites in execution order. Sites whose map has a single position are left out: no *where* is there.

    Raises:
        InputError: if the network does not run on such an input, has no spatial map or no finite weights.
    """
    module = as_module(net)
    check_finite(module)
    size = input_size or expected_input_size(net)
    trace = _Trace(module, size)
    with trace.hooked(), evaluating(module), running(module, size):
        module(blank_picture(module, size))
    return trace.sites()


@dataclass
class _Entry:
    name: str
    call: int
    kind: str
    layout: str | None
    shape_in: tuple[int, int, int] | None
    raw: tuple[int, ...]  # the input's axes but the first
    sure: bool  # of the layout
    mixing_before: int  # convolutions and attention
    linears_before: int
    flops_before: int
    parents: tuple[str, ...]
    shape: tuple[int, int, int] | None = None


class _Trace:
    """Hooks that write down every module call of one forward pass."""

    def __init__(self, module: nn.Module, size: tuple[int, int, int]) -> None:
        self.module, self.size = module, size
        square = size[1] == size[2]
        # Where both layouts occur (with layer norms), the shape of a square picture's map decides.
        self.shape_tells = square and any(isinstance(m, nn.LayerNorm) for m in module.modules())
        self.entries: list[_Entry] = []
        self.open: list[_Entry] = []
        self.calls: Counter[str] = Counter()
        self.convs = self.linears = 0
        self.attention = AttentionCalls()
        self.grid: tuple[int, int] | None = None
        self.layout = "NCHW"  # of the last map whose layout was certain
        self.flops = 0

    @contextmanager
    def hooked(self) -> Iterator[None]:
        handles: list[Any] = []
        token = tracing.set(True)
        try:
            for name, m in self.module.named_modules():
                if name:
                    handles.append(m.register_forward_pre_hook(self._enter(name), with_kwargs=True))
                    handles.append(m.register_forward_hook(self._leave, always_call=False))
            with self.attention:
                yield
        finally:
            tracing.reset(token)
            for handle in handles:
                handle.remove()

    def _enter(self, name: str) -> Callable[..., None]:
        def hook(m: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self.calls[name] += 1
            x = map_in(args, kwargs)
            layout, shape = self._map_of(m, x)
            raw = tuple(x.shape[1:]) if x is not None else ()
            certain = certain_layout(m)
            if certain and certain == layout:
                self._learn(raw, certain)
            entry = _Entry(
                name,
                self.calls[name],
                kind_of(m),
                layout,
                shape,
                raw,
                bool(certain),
                self.convs + self.attention.count,
                self.linears,
                self.flops,
                tuple(e.name for e in self.open),
            )
            self.entries.append(entry)
            self.open.append(entry)

        return hook

    def _leave(self, m: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        entry = self.open.pop()
        out = output if isinstance(output, Tensor) else None
        if entry.layout and out is not None and tuple(out.shape[1:]) == entry.raw:  # the same axes mean the same,
            entry.shape = entry.shape_in  # whatever linear layers of a gate inside were
            self.layout = entry.layout if out.ndim == 4 else self.layout
        else:
            _, entry.shape = self._map_of(m, out)
        self.convs += isinstance(m, nn.Conv2d)
        self.linears += isinstance(m, nn.Linear)
        self.flops += leaf_flops(m, out)
        if out is not None and out.ndim == 4 and not self._in_attention() and not self._in_attention_of_tokens():
            self.grid = entry.shape[1:] if entry.shape else None

    def _map_of(self, m: nn.Module, x: Tensor | None) -> tuple[str | None, tuple[int, int, int] | None]:
        """Layout and (C, H, W) of a tensor that is a spatial map; (None, None) for any other."""
        if x is None or x.ndim not in (3, 4):
            return None, None
        if x.ndim == 4:
            if self._in_attention() and not isinstance(m, CHANNELS_FIRST_LEAVES):
                return None, None
            layout = certain_layout(m) or self._likely_layout(x.shape)
            shape = chw(x.shape[1:], layout)
            return (layout, shape) if shape[1] * shape[2] > 1 else (None, None)
        if self.grid is None or not 0 <= (prefix := x.shape[1] - self.grid[0] * self.grid[1]) <= 8:
            return None, None
        return f"tokens+{prefix}", (x.shape[2], *self.grid)

    def _likely_layout(self, shape: Sequence[int]) -> str:
        _, a, b, c = shape
        if self.shape_tells and (a == b) != (b == c):
            return "NHWC" if a == b else "NCHW"
        return self.layout

    def _learn(self, raw: tuple[int, ...], layout: str) -> None:
        """A leaf knows its layout, so the groups it is in, if their input has the same shape, have it too."""
        self.layout = layout
        for e in self.open:
            if e.raw == raw and e.layout and not e.sure:
                e.layout, e.shape_in, e.sure = layout, chw(raw, layout), True

    def _in_attention(self) -> bool:
        """Inside attention, four axes are (N, heads, queries, keys): no map."""
        return any("attn" in e.name.rpartition(".")[2] for e in self.open)

    def _in_attention_of_tokens(self) -> bool:
        """A map inside, of fewer keys and values (SegFormer's), is not the map of the tokens that go on."""
        return any("attention" in e.name.rpartition(".")[2] and len(e.raw) == 2 for e in self.open)

    def sites(self) -> Sites:
        spatial = [e for e in self.entries if e.layout]
        if not spatial:
            if self.convs and tuple(self.size)[-2:] == (1, 1):
                raise InputError("the pictures are 1 x 1 pixels, which have no where; give larger ones.")
            raise InputError(
                "no spatial feature map flows through the modules of this network; if it calls F.conv2d on parameters "
                "of its own, give ww.modular(net), the same network with modules for these."
            )
        found = (self._site(i, e) for i, e in enumerate(spatial))
        return Sites(found, self.module, self.flops, input_size=self.size, follow=self._followed)

    def _followed(self, table: Sites) -> Places:
        return Places(flow_of(self.module, input_size=self.size), table)

    def _site(self, order: int, e: _Entry) -> Site:
        name = f"{e.name}#{e.call}" if self.calls[e.name] > 1 else e.name
        mixing = self.convs + self.attention.count
        total, before = (mixing, e.mixing_before) if self.convs > 1 else (self.linears, e.linears_before)
        assert e.layout
        assert e.shape_in
        return Site(
            name=name,
            module=e.name,
            call=e.call,
            order=order,
            kind=e.kind,
            layout=e.layout,
            shape_in=e.shape_in,
            shape=e.shape,
            depth_share=(total - before) / max(total, 1),
            flops_before=e.flops_before,
            parents=e.parents,
        )


sites = list_sites  # the public name
