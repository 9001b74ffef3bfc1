"""The calls that pad a map while a network runs, whatever its modules are: counted at the level of operators."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from whatwhere.graph.rewrite import copies
from whatwhere.hold.padded import Pairs
from whatwhere.hold.uneven import Pair
from whatwhere.hold.written_zeros import padded_otherwise
from whatwhere.network import running
from whatwhere.site import evaluating, tracing

UNKNOWN, WEIGHT = 0, -1  # in the place of a tensor's channel axis
# Functions of torch that pad, how they are called, and what they take.
_CONV = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_MAX = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_AVG = ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
_UP = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
_OPERATORS: dict[Any, tuple[str, tuple[str, ...]]] = {
    F.pad: ("F.pad", ("input", "pad", "mode", "value")),
    torch.constant_pad_nd: ("torch.constant_pad_nd", ("input", "pad", "value")),
    F.conv2d: ("F.conv2d", _CONV),
    F.max_pool2d: ("F.max_pool2d", _MAX),
    torch.max_pool2d: ("F.max_pool2d", _MAX),
    F.max_pool2d_with_indices: ("F.max_pool2d_with_indices", _MAX),
    F.avg_pool2d: ("F.avg_pool2d", _AVG),
    F.unfold: ("F.unfold", ("input", "kernel_size", "dilation", "padding", "stride")),
    F.conv_transpose2d: ("F.conv_transpose2d", _UP),
    F.fold: ("F.fold", ("input", "output_size", "kernel_size", "dilation", "padding", "stride")),
}
_DEFORMABLE = ("input", "weight", "offset", "mask", "bias", "stride_h", "stride_w", "padding_h", "padding_w")
_FILLS = {
    "F.conv2d": "zeros",
    "F.unfold": "zeros",
    "F.max_pool2d": "-inf",
    "F.max_pool2d_with_indices": "-inf",
    "F.conv_transpose2d": "cropping",
    "F.fold": "cropping",
    "deform_conv2d": "zeros",
}


@dataclass(frozen=True)
class PaddingCall:
    """One call of an operator that pads, or can.

    Attributes:
        owner: the innermost module in whose forward it happened; "" for the network itself.
        operator: as one writes it: F.pad, F.conv2d, F.max_pool2d, F.avg_pool2d, F.unfold, ..., and what pads otherwise
            (`written_zeros`).
        fill: zeros, reflect, replicate, circular, -inf, nothing (an average that leaves its padding out), cropping (of
            what a transposed convolution gives), or the constant.
        positions: whether it added rows or columns to a map.
        possible: whether it would add some to a map of another size, as far as the call itself tells.
        other: whether it added to something else: channels, a sequence, weights.
        channels: the axis of the map's channels.
        full: of a convolution, whether every weight sees every pixel.
        ragged: of a pool, whether its last windows may stick out (ceil_mode).
    """

    owner: str
    operator: str
    fill: str
    positions: bool
    possible: bool = False
    other: bool = False
    channels: int = 1
    full: bool = False
    ragged: bool = False


def padding_calls(module: nn.Module, size: tuple[int, int, int]) -> list[PaddingCall]:
    """What pads while a network runs in evaluation mode on a random picture.

    Args:
        module: it is not changed.
        size: (C, H, W) of the picture.

    Raises:
        InputError: if it does not run.
    """
    return observed(module, size).calls


def observed(module: nn.Module, size: tuple[int, int, int], keep: Collection[str] = (), pictures: int = 1) -> Recorder:
    """Run a network and record what pads.

    Args:
        module: it is not changed.
        size: (C, H, W) of the pictures.
        keep: names of modules whose arguments are kept.
        pictures: how many.

    Raises:
        InputError: if it does not run.
    """
    recorder = Recorder(module)
    like = next((p for p in module.parameters() if p.is_floating_point()), torch.empty(0))
    drawn = torch.randn(pictures, *size, generator=torch.Generator().manual_seed(0))
    with recorder.owners_of(module, keep), evaluating(module), running(module, size), recorder:
        module(recorder.as_map(drawn.to(like.device, like.dtype)))
    return recorder


class Recorder(TorchFunctionMode):
    """Writes down every call that pads, and follows where the channels of maps are.

    Args:
        module: whose parameters and buffers are no maps.

    Attributes:
        calls: what padded, in order.
        given: for the modules asked for, (args, kwargs) of their first call.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.calls: list[PaddingCall] = []
        self.given: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        self._weights = {id(t) for t in (*module.parameters(), *module.buffers())}
        self._owners = [""]

    def as_map(self, x: Tensor) -> Tensor:
        """Say of a tensor that it is a map (N, C, H, W)."""
        x.channel_axis = 1  # type: ignore[attr-defined]
        return x

    @contextmanager
    def owners_of(self, module: nn.Module, keep: Collection[str] = ()) -> Iterator[None]:
        """Know which module runs, while the block lasts."""
        handles: list[Any] = []
        token = tracing.set(True)
        try:
            for name, m in module.named_modules():
                handles.append(m.register_forward_pre_hook(self._enter(name, name in keep), with_kwargs=True))
                handles.append(m.register_forward_hook(lambda *_: self._owners.pop() and None))
            yield
        finally:
            tracing.reset(token)
            for handle in handles:
                handle.remove()

    def _enter(self, name: str, kept: bool) -> Callable[..., None]:
        def hook(m: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._owners.append(name)
            if kept and name not in self.given:
                self.given[name] = copies((args, kwargs))

        return hook

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call what was called, and note it."""
        kwargs = kwargs or {}
        called = arguments_of(func, args, kwargs)
        if called and isinstance(called[1]["input"], Tensor):  # not what torch.fx follows
            self._note(*called)
        elif otherwise := padded_otherwise(func, args, kwargs, self._axis):
            self.calls.append(PaddingCall(self._owners[-1], *otherwise, positions=True))
        out = func(*args, **kwargs)
        self._follow(func, args, kwargs, out)
        return out

    # ---- what padded

    def _note(self, operator: str, given: dict[str, Any]) -> None:
        owner = self._owners[-1]
        if "pad" in given:
            self.calls.append(_pad_call(owner, operator, given, self._axis(given["input"])))
        elif self._axis(given["input"]) != WEIGHT:
            self.calls.extend(_window_call(owner, operator, given))

    # ---- where the channels are

    def _axis(self, x: Tensor) -> int:
        if isinstance(x, nn.Parameter) or id(x) in self._weights:
            return WEIGHT
        return int(getattr(x, "channel_axis", UNKNOWN))

    def _follow(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        for made in _tensors([out]):
            if id(made) not in self._weights:
                made.channel_axis = self._axis_of_result(func, args, kwargs, made)

    def _axis_of_result(self, func: Any, args: Any, kwargs: Any, made: Any) -> int:
        read = [(x, self._axis(x)) for x in _tensors([*args, *kwargs.values()])]
        if read and all(axis == WEIGHT for _, axis in read):
            return WEIGHT
        if func in _CHANNELS_FIRST or func in _CHANNELS_LAST:
            return 1 if func in _CHANNELS_FIRST else made.ndim - 1
        known = [(x, axis) for x, axis in read if axis > UNKNOWN]
        same = [(x, axis) for x, axis in known if x.ndim == made.ndim]
        if not known:
            return UNKNOWN
        x, axis = (same or known)[0]
        name = getattr(func, "__name__", "")
        if name in _MOVES:
            return _moved(func, args, kwargs, axis, x.ndim)
        return axis if same and name not in _RESHAPES else _found_again(x, axis, made)


_CHANNELS_FIRST = {F.conv2d, F.batch_norm, torch.batch_norm, F.conv_transpose2d, F.group_norm, F.interpolate}
_CHANNELS_FIRST |= {F.max_pool2d, torch.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d}
_CHANNELS_LAST = {F.linear, F.layer_norm}
_MOVES = {"permute", "transpose", "movedim", "moveaxis", "swapaxes", "swapdims"}
_RESHAPES = {"reshape", "view", "flatten", "unflatten", "squeeze", "unsqueeze"}


def _moved(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], axis: int, ndim: int) -> int:
    """Where an axis goes, tried on axes that all differ in size."""
    sizes = torch.empty(tuple(range(2, 2 + ndim)), device="meta")
    return list(func(sizes, *args[1:], **kwargs).shape).index(2 + axis)


def _found_again(x: Tensor, axis: int, made: Tensor) -> int:
    """The axis of the channels after a change of shape that left it where it was, first or last."""
    channels = x.shape[axis]
    if axis == x.ndim - 1 and made.ndim and made.shape[-1] == channels:
        return made.ndim - 1
    kept = made.ndim > 1 and tuple(made.shape[:2]) == (x.shape[0], channels)
    return 1 if axis == 1 and kept else UNKNOWN


def _tensors(values: Sequence[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


# ---- reading a call


def arguments_of(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Of a function that can pad, how one writes it and its arguments by name; None for any other.

    Args:
        func: as torch or torch.fx calls it.
        args: by position.
        kwargs: by name.
    """
    if isinstance(func, torch._ops.OpOverloadPacket | torch._ops.OpOverload):
        compiled = str(func).startswith("torchvision.deform_conv2d")
        return ("deform_conv2d", dict(zip(_DEFORMABLE, args, strict=False))) if compiled else None
    found = _OPERATORS.get(func)
    return (found[0], {**dict(zip(found[1], args, strict=False)), **kwargs}) if found else None


def _pad_call(owner: str, operator: str, given: Mapping[str, Any], axis: int) -> PaddingCall:
    amounts = amounts_by_axis(given["pad"], given["input"].ndim)
    added = {a for a, pair in amounts.items() if max(pair) > 0}
    channels = _channels(given["input"].ndim, axis, added)
    positions = channels != UNKNOWN and bool(added - {0, channels})
    possible = channels != UNKNOWN and not any(map(any, amounts.values()))
    other = bool(added) and not positions
    return PaddingCall(owner, operator, _fill_of_pad(given), positions, possible, other, channels)


def amounts_by_axis(pad: Sequence[int], ndim: int) -> dict[int, Pair]:
    """What F.pad adds (before, after) each axis that it is told about."""
    return {ndim - 1 - i: (int(pad[2 * i]), int(pad[2 * i + 1])) for i in range(len(pad) // 2)}


def _channels(ndim: int, axis: int, added: set[int]) -> int:
    """The axis of the channels; UNKNOWN if this is no map."""
    if ndim != 4 or axis == WEIGHT:
        return UNKNOWN
    by_axes: dict[Any, int] = {(2, 3): 1, (1, 2): 3}  # two axes of one map are rows and columns
    return axis if axis in (1, 3) else by_axes.get(tuple(sorted(added)), UNKNOWN)


def _fill_of_pad(given: Mapping[str, Any]) -> str:
    mode, value = given.get("mode", "constant"), given.get("value") or 0
    if mode != "constant":
        return str(mode)
    return "zeros" if value == 0 else f"{value:g}"


def _window_call(owner: str, operator: str, given: Mapping[str, Any]) -> Iterator[PaddingCall]:
    amounts = amounts_of_window(given)
    pads = any(map(any, amounts))
    if not pads and operator != "F.conv2d":
        return
    included = given.get("count_include_pad", True)
    fill = _FILLS.get(operator) or ("zeros" if included else "nothing")
    full = operator == "F.conv2d" and amounts == full_amounts(given)
    ragged = bool(given.get("ceil_mode")) and max(pair_of(given.get("stride") or given["kernel_size"])) > 1
    yield PaddingCall(owner, operator, fill, pads, full=full, ragged=ragged)


def amounts_of_window(given: Mapping[str, Any]) -> Pairs:
    """What a convolution or pool adds (before, after) rows and columns."""
    if "padding_h" in given:
        rows, columns = given["padding_h"], given["padding_w"]
        return (rows, rows), (columns, columns)
    padding = given.get("padding", 0)
    if padding == "same":
        (rows, _), (columns, _) = full_amounts(given)
        return (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)
    rows, columns = (0, 0) if padding == "valid" else pair_of(padding)
    return (rows, rows), (columns, columns)


def full_amounts(given: Mapping[str, Any]) -> Pairs:
    """What a convolution has to add for every weight to see every pixel."""
    kernel, dilation = given["weight"].shape[2:], pair_of(given.get("dilation", 1))
    rows, columns = (d * (k - 1) for d, k in zip(dilation, kernel, strict=True))
    return (rows, rows), (columns, columns)


def pair_of(value: Any) -> Pair:
    """A number for rows and columns, or one for both."""
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[-1]))
