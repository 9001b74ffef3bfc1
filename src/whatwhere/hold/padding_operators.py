"""Operators that pad, in a module's own forward: the same forward with another padding, on its graph.

A module in whose forward they are becomes a `torch.fx.GraphModule` with the same parts and names; the network around it
stays what it is, and so do its sites.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, fx, nn

from whatwhere.errors import InputError
from whatwhere.graph.rewrite import arguments_by_name, asks_whether_it_trains, copies, forward_graph, rewritten
from whatwhere.graph.trace import execute
from whatwhere.hold.padded import filled
from whatwhere.hold.padding_calls import (
    PaddingCall,
    Recorder,
    amounts_by_axis,
    amounts_of_window,
    arguments_of,
    full_amounts,
    observed,
)
from whatwhere.hold.written_zeros import ASSIGNMENT, CAT, SAMPLING
from whatwhere.site import evaluating
from whatwhere.surgery import Replaced, put_everywhere

FILLS = ("reflect", "replicate", "circular")
CEIL_MODE = (
    "in ceil_mode, whether there is a last window depends on where the map ends",
    "set its ceil_mode to False",
)
_PAD_INSTEAD = "let an nn.Conv2d pad instead"
Given = tuple[tuple[Any, ...], dict[str, Any]]  # what a module was called with
_FIXED = {  # what cannot be rewritten, and what to do about it
    "F.conv_transpose2d": ("its padding crops the output of a transposed convolution", "give it padding 0"),
    "F.fold": ("its padding crops what it gives", "give it padding 0"),
    "F.max_pool2d_with_indices": ("the indices that it gives would be of the padded map", "give it padding 0"),
    CAT: ("it puts rows or columns of zeros beside a map", _PAD_INSTEAD),
    ASSIGNMENT: ("it writes a map into a larger one of zeros", _PAD_INSTEAD),
    SAMPLING: ("it samples outside of the map", "keep its grid inside"),
    "deform_conv2d": ("it is compiled, and pads inside", "give it padding 0, and pad before it"),
}
_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "F.conv2d": F.conv2d,
    "F.max_pool2d": F.max_pool2d,
    "F.avg_pool2d": F.avg_pool2d,
    "F.unfold": F.unfold,
}


@dataclass(frozen=True)
class Changed:
    """What became of the operators of a network.

    Attributes:
        module: the network; a graph, if it was one of the network's own operators.
        replaced: operators that pad in another mode now.
        elsewhere: operators that add nothing at this size, and at another would pad in the mode.
        fixed: modules that ask in their own Python whether they train, and do now what they do in evaluation.
        kept: why operators that add nothing at this size stay, and would pad as before at another.
    """

    module: nn.Module
    replaced: tuple[Replaced, ...] = ()
    elsewhere: tuple[Replaced, ...] = ()
    fixed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


def refusal(mode: str, name: str, m: nn.Module, reason: str, fix: str) -> InputError:
    """An error for a layer whose padding cannot be changed.

    Args:
        mode: that was asked for.
        name: of the layer.
        m: the layer.
        reason: why not.
        fix: what to do.
    """
    return InputError(
        f"mode={mode!r}: cannot change the padding of {name or 'net'}, a {type(m).__name__}: {reason}; {fix}."
    )


def is_wrong(call: PaddingCall, mode: str) -> bool:
    """Whether a call pads otherwise than in a mode, by the rules that hold for modules.

    Pools pad with -inf, or leave their padding out: zeros and f-conv keep them.
    """
    if mode == "f-conv" and call.operator == "F.conv2d":
        return not call.full
    if not (call.positions or call.possible):
        return False
    if mode in ("zeros", "f-conv"):
        return call.fill in FILLS or (call.fill == "cropping" and mode == "f-conv")
    return call.fill != mode


def change_operators(
    module: nn.Module, mode: str, size: tuple[int, int, int], done: Callable[[nn.Module], bool]
) -> Changed:
    """Let every operator between modules pad in a mode.

    Args:
        module: a copy of the user's network; it is used up.
        mode: one of `PADDINGS`.
        size: (C, H, W) of a picture.
        done: whether a module is changed as a whole, and its operators with it.

    Raises:
        InputError: naming an operator whose padding cannot be changed, and why.
    """
    calls = [c for c in observed(module, size).calls if is_wrong(c, mode) and not done(module.get_submodule(c.owner))]
    owners = {name: [c for c in calls if c.owner == name] for name in dict.fromkeys(c.owner for c in calls)}
    given = observed(module, size, owners, pictures=2).given if owners else {}
    changed = Changed(module)
    for name, of_owner in owners.items():
        changed = _with_owner(changed, name, mode, given[name], must=not all(map(_is_spare, of_owner)))
    return changed


def _is_spare(call: PaddingCall) -> bool:
    """Whether a call adds nothing at this size, but may at another."""
    return call.possible and not call.positions


def _with_owner(done: Changed, name: str, mode: str, given: Given, *, must: bool) -> Changed:
    """What has changed so far, and one more module."""
    owner = done.module.get_submodule(name)
    try:
        new, calls = _rewrite(name, owner, mode, given)
    except InputError as error:
        if must:
            raise
        return replace(done, kept=(*done.kept, str(error)))
    if not calls:
        return done
    lines = [Replaced(name or "net", f"{c.operator} {c.fill}", mode) for c in calls]
    return Changed(
        put_everywhere(done.module, owner, new),
        (*done.replaced, *(r for r, c in zip(lines, calls, strict=True) if not _is_spare(c))),
        (*done.elsewhere, *(r for r, c in zip(lines, calls, strict=True) if _is_spare(c))),
        (*done.fixed, *([name or "net"] if asks_whether_it_trains(owner) else [])),
        done.kept,
    )


# ---- one module


def _rewrite(name: str, owner: nn.Module, mode: str, given: Given) -> tuple[nn.Module, list[PaddingCall]]:
    """A module whose own operators pad in a mode, and those that did not."""
    try:
        graph = forward_graph(owner, *given)
    except InputError as error:
        raise refusal(mode, name, owner, f"an operator in its forward pads, and {error}", _PAD_INSTEAD) from error
    wrong = {n: c for n, c in _calls_by_node(owner, graph, given) if is_wrong(c, mode) and not _stays_nothing(n, c)}
    for call in wrong.values():
        _refuse_what_is_fixed(call, mode, name, owner)
    by = {node: _replacement(node, call, mode) for node, call in wrong.items()}
    return rewritten(owner, graph, by), list(wrong.values())


def _calls_by_node(owner: nn.Module, graph: fx.Graph, given: Given) -> Iterator[tuple[fx.Node, PaddingCall]]:
    """The nodes that pad, found by running the graph."""
    recorder = Recorder(owner)
    arguments, values = arguments_by_name(owner, *given), dict[fx.Node, Any]()
    with evaluating(owner), recorder:
        for node in graph.nodes:
            recorder.calls.clear()
            is_given = node.op == "placeholder"
            values[node] = copies(arguments[node.target]) if is_given else execute(owner, node, values.__getitem__)
            if node.op != "call_module":
                yield from ((node, call) for call in recorder.calls)


def _stays_nothing(node: fx.Node, call: PaddingCall) -> bool:
    """Whether a call adds nothing whatever the size: its amounts are numbers, not computed."""
    called = arguments_of(node.target, node.args, node.kwargs)
    return _is_spare(call) and called is not None and not _nodes_in(called[1]["pad"])


def _nodes_in(value: Any) -> list[fx.Node]:
    found: list[fx.Node] = []
    fx.node.map_arg(value, found.append)
    return found


def _refuse_what_is_fixed(call: PaddingCall, mode: str, name: str, owner: nn.Module) -> None:
    reason, fix = _FIXED.get(call.operator, ("", ""))
    if call.ragged and mode in FILLS:
        reason, fix = CEIL_MODE
    if reason:
        raise refusal(mode, name, owner, f"{call.operator} is in its forward, and {reason}", fix)


def _replacement(node: fx.Node, call: PaddingCall, mode: str) -> Callable[..., Any]:
    if call.operator in _FUNCTIONS:
        return partial(slid, operator=call.operator, fill=mode)
    function = refilled if call.operator == "F.pad" else refilled_constant
    return partial(function, fill="zeros" if mode == "f-conv" else mode, channels=call.channels)


# ---- what stands in the place of operators


def refilled(
    input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None, *, fill: str, channels: int
) -> Tensor:
    """F.pad, but rows and columns that it adds to a map are filled in a mode.

    Args:
        input: the map, with four axes.
        pad: as F.pad takes it; channels are padded, and rows and columns cropped, as it says.
        mode: what F.pad was given; not used.
        value: of padded channels.
        fill: zeros, reflect, replicate or circular; none adds nothing.
        channels: the axis of the channels, 1 or 3.
    """
    amounts = amounts_by_axis(pad, 4)
    spatial = (2, 3) if channels == 1 else (1, 2)
    rows, columns = ((max(before, 0), max(after, 0)) for before, after in (amounts.get(a, (0, 0)) for a in spatial))
    rest = {a: (min(p[0], 0), min(p[1], 0)) if a in spatial else p for a, p in amounts.items()}
    if any(map(any, rest.values())):
        input = F.pad(input, [n for a in range(3, 3 - len(rest), -1) for n in rest[a]], value=value)
    return filled(input, (rows, columns), fill, channels=channels)


def refilled_constant(input: Tensor, pad: Sequence[int], value: float = 0, *, fill: str, channels: int) -> Tensor:
    """torch.constant_pad_nd, likewise.

    Args:
        input: the map, with four axes.
        pad: as `refilled` takes it.
        value: likewise.
        fill: likewise.
        channels: likewise.
    """
    return refilled(input, pad, "constant", value, fill=fill, channels=channels)


def slid(*args: Any, operator: str, fill: str, **kwargs: Any) -> Tensor:
    """A convolution, pool or unfolding as a function, on a map that was padded before.

    Args:
        *args: as the function takes them.
        operator: which function, as `PaddingCall` calls it.
        fill: reflect, replicate or circular; none adds nothing; f-conv adds what lets every weight see every pixel.
        **kwargs: as the function takes them.
    """
    function = _FUNCTIONS[operator]
    called = arguments_of(function, args, kwargs)
    assert called
    given = called[1]
    if fill == "f-conv":
        (rows, _), (columns, _) = full_amounts(given)
        return function(given.pop("input"), **{**given, "padding": (rows, columns)})
    x = filled(given.pop("input"), amounts_of_window(given), fill)
    return function(x, **{**given, "padding": 0})
