"""The same network with another padding: what it pads with, or how much (a control for where position comes from).

Sources: Islam et al. 2020 and 2021 (position comes from zero padding); Kayhan & van Gemert, CVPR 2020, whose
F-Conv pads with dilation * (k - 1) zeros, so that every weight sees every pixel.
Deviations: ours is surgery on any network, with its weights, rather than an architecture trained so. Under `none` and
`f-conv` a residual block's shortcut is cropped or zero-padded around its centre to the size of the branch; at a stride
the two may then be up to one pixel of the block's input out of register. Max-pools are part of it: their own padding is
with -inf, and `reflect`, `replicate` and `circular` replace that too; `zeros` and `f-conv` leave pools as they are.
Operators in the forward of a module (`F.pad`, `F.conv2d`) follow the same rules (`padding_operators`). Under `f-conv`
zeros that are added before a convolution stay: the convolution adds its own to them.
"""

from __future__ import annotations

from collections import Counter
from contextlib import redirect_stderr
from dataclasses import replace
from functools import partial
from io import StringIO
from typing import Any

from torch import nn

from whatwhere.errors import InputError, unknown
from whatwhere.hold.padded import PaddedConv, PaddedMap, is_own_conv, is_own_pool, without_padding
from whatwhere.hold.padded import PaddedPool as PaddedPool
from whatwhere.hold.padding_calls import padding_calls
from whatwhere.hold.padding_operators import CEIL_MODE, Changed, change_operators, is_wrong, refusal
from whatwhere.hold.padding_report import PADDINGS as PADDINGS
from whatwhere.hold.padding_report import PaddingMode as PaddingMode
from whatwhere.hold.padding_report import PaddingReport as PaddingReport
from whatwhere.hold.shortcuts import FittedShortcut, fit_shortcuts
from whatwhere.hold.uneven import WINDOWED, Pair, Window, window_of
from whatwhere.network import N, Network, as_module, check_finite
from whatwhere.site import blank_picture, evaluating, expected_input_size
from whatwhere.surgery import Edit, Replaced, as_given, copied, edit, record

_POOLS = (nn.MaxPool2d, nn.AvgPool2d)
_KEEP_POOLS = ("zeros", "f-conv")
_PADDERS = {  # modules that pad with what a mode asks for need no change
    "ReflectionPad2d": "reflect",
    "ReplicationPad2d": "replicate",
    "CircularPad2d": "circular",
}
_FAILURES = (RuntimeError, ValueError, TypeError, IndexError, AssertionError, NotImplementedError)


def with_padding(net: N, mode: PaddingMode, *, input_size: tuple[int, int, int] | None = None) -> N:
    """A new network with the same weights, in which everything that pads a map pads in one way.

    >>> wrapped = with_padding(net, "circular")          # no borders that reveal position
    >>> print(wrapped.surgery)                           # what changed

    `zeros`, `reflect`, `replicate` and `circular` keep the amount of padding and change what it is filled with.
    `none` removes it, "same" padding too, and `f-conv` pads with dilation * (k - 1) zeros on each side: maps shrink or
    grow.

    Modules are changed, and a module that pads by operators in its own forward (torchvision's Swin, by `F.pad`) becomes
    a `torch.fx.GraphModule` of that forward. Afterwards the network runs, and no padding of another kind is left: they
    are counted, operator by operator.

    Args:
        net: the network; it is left alone.
        mode: one of `PADDINGS`.
        input_size: (C, H, W) of one picture on which the new network must run; None takes the network's own. If it is
            given, a `Network` that comes back says that it expects this size.

    Returns:
        What was given: a module for a module, a `Network` for a `Network`; a plain copy where nothing had to change.
        The module's attribute `surgery` is the `PaddingReport`. Names in the state dict stay as they were, except for
        a `downsample` that is not an `nn.Sequential`.

    Raises:
        InputError: for an unknown mode, for a layer whose padding cannot be changed (it pads in a forward of its own,
            is transposed, has asymmetric "same" padding, ...), or if the new network does not run at that size.
    """
    if mode not in PADDINGS:
        raise unknown("mode", str(mode), PADDINGS)
    given = as_module(net)
    check_finite(given)
    size = input_size or expected_input_size(net)
    edits = _edits(given, mode)
    operators: Changed = change_operators(copied(given), mode, size, done=_is_whole)
    module: nn.Module = operators.module
    replaced: list[Replaced] = []
    if edits:
        module, replaced = edit(module, edits)
    if mode in ("none", "f-conv"):
        replaced += fit_shortcuts(module, [r.name for r in replaced])
    _check_runs(module, mode, size)
    not_positions = _check_counted(module, mode, size)
    module.__dict__["surgery"] = PaddingReport(  # a plain attribute
        mode, size, (*operators.replaced, *replaced), operators.elsewhere, not_positions, _notes(operators)
    )
    record(module, net, "hold.with_padding", mode=mode, input_size=size)
    new = as_given(net, module, f"{getattr(net, 'name', '')} + padding {mode}")
    return replace(new, input_size=size) if input_size and isinstance(new, Network) else new


def _notes(operators: Changed) -> tuple[str, ...]:
    more = f" and {len(operators.fixed) - 3} more" if len(operators.fixed) > 3 else ""
    fixed = f"In training, too, operators in {', '.join(operators.fixed[:3])}{more} do what they do in evaluation."
    return (*([fixed] if operators.fixed else []), *operators.kept)


def _is_whole(m: nn.Module) -> bool:
    """Whether a module's padding is changed at the module, or refused there."""
    return isinstance(m, (*WINDOWED, PaddedPool, PaddedMap, FittedShortcut, nn.ConvTranspose2d)) or _is_padder(m)


def _check_counted(module: nn.Module, mode: PaddingMode, size: tuple[int, int, int]) -> int:
    """See that no other padding is left; how many calls pad what is no row or column of a map."""
    calls = padding_calls(module, size)
    left = [c for c in calls if c.positions and is_wrong(c, mode)] if mode not in _KEEP_POOLS else []
    if left:
        first, m = left[0], module.get_submodule(left[0].owner)
        reason = f"{first.operator} still pads with {first.fill} there ({len(left)} such calls in all)"
        before = isinstance(m, FittedShortcut)
        fix = "give the network as it was before f-conv" if before else "let an nn.Conv2d pad instead"
        raise refusal(mode, first.owner, m, reason, fix)
    return sum(c.operator in ("F.pad", "torch.constant_pad_nd") and c.other for c in calls)


def _edits(module: nn.Module, mode: PaddingMode) -> dict[str, Edit]:
    found = {name: _edit_for(name, m, mode) for name, m in module.named_modules() if not _is_inner(module, name)}
    edits = {name: e for name, e in found.items() if e is not None}
    _refuse_shared_pools(module, edits)
    return edits


def _is_inner(module: nn.Module, name: str) -> bool:
    """Whether this is the pool inside of a wrapper of ours, which is dealt with as a whole."""
    return bool(name) and isinstance(module.get_submodule(name.rpartition(".")[0]), PaddedPool)


def _edit_for(name: str, m: nn.Module, mode: PaddingMode) -> Edit | None:
    if _adds_zeros(m) or isinstance(m, PaddedMap):
        return _map_edit(m, mode)
    if isinstance(m, PaddedConv) or is_own_conv(m):
        return _own_conv_edit(m, mode)
    _refuse_padders(name, m, mode)
    if isinstance(m, WINDOWED) and not is_own_pool(m) and _pads_by_itself(name, m, mode):
        return None
    if isinstance(m, nn.Conv2d):
        return _conv_edit(name, m, mode)
    return _pool_edit(name, m, mode) if isinstance(m, (*_POOLS, PaddedPool)) else None


# ---- refusals


def _refuse_padders(name: str, m: nn.Module, mode: PaddingMode) -> None:
    """Stop at modules that pad, but are neither convolutions nor pools that we can change."""
    if isinstance(m, nn.ConvTranspose2d) and mode != "zeros" and any(m.padding):
        raise refusal(mode, name, m, "its padding crops the output of a transposed convolution", "give it padding 0")
    if _is_padder(m) and _PADDERS.get(type(m).__name__) != mode and getattr(m, "pad_mode", None) != mode:
        raise refusal(mode, name, m, "it pads by itself", "let the next nn.Conv2d pad instead")


def _is_padder(m: nn.Module) -> bool:
    """Torch's padding modules, and leaves of others with a padding (timm's `BlurPool2d`)."""
    if type(m).__module__ == "torch.nn.modules.padding":
        return True
    padding = getattr(m, "padding", None)
    amounts = padding if isinstance(padding, list | tuple) else [padding]
    strange = not type(m).__module__.startswith("torch.") and not isinstance(m, WINDOWED)
    return strange and next(m.children(), None) is None and any(isinstance(p, int) and p > 0 for p in amounts)


def _pads_by_itself(name: str, m: nn.Module, mode: PaddingMode) -> bool:
    """Whether a convolution or pool with a forward of its own can stay; InputError if it cannot."""
    if not _has_own_forward(m):
        return False
    window = window_of(m)
    pool = not isinstance(m, nn.Conv2d)
    if (window and _is_pointwise(window)) or (mode in _KEEP_POOLS if pool else _is_zero_padded(m, mode)):
        return True
    by = "nn.MaxPool2d or nn.AvgPool2d" if pool else "nn.Conv2d"
    raise refusal(mode, name, m, "it has a forward of its own, which may pad by itself", f"replace it by {by}")


def _has_own_forward(m: nn.Module) -> bool:
    if isinstance(m, nn.Conv2d):
        return type(m).forward is not nn.Conv2d.forward or type(m)._conv_forward is not nn.Conv2d._conv_forward
    return all(type(m).forward is not pool.forward for pool in _POOLS)


def _is_zero_padded(m: nn.Module, mode: PaddingMode) -> bool:
    return mode == "zeros" and getattr(m, "padding_mode", "zeros") == "zeros"


def _is_pointwise(w: Window) -> bool:
    return w.kernel == (1, 1) and w.padding == (0, 0)


def _refuse_shared_pools(module: nn.Module, edits: dict[str, Edit]) -> None:
    names = Counter(id(m) for _, m in module.named_modules(remove_duplicate=False))
    for name in edits:
        m = module.get_submodule(name)
        alone = not name and (_adds_zeros(m) or isinstance(m, PaddedMap | PaddedConv) or is_own_conv(m))
        if alone or (isinstance(m, (*_POOLS, PaddedPool)) and (names[id(m)] > 1 or not name)):
            where = "it is registered under several names" if name else "it is the whole network"
            raise InputError(f"{name or 'net'}: this {type(m).__name__} pads, and {where}; give each place its own.")


# ---- convolutions


def _conv_edit(name: str, conv: nn.Conv2d, mode: PaddingMode) -> Edit | None:
    if mode == "none":
        amount, fill = (0, 0), "zeros"
    elif mode == "f-conv":
        amount, fill = _full(conv), "zeros"
    elif conv.padding_mode == mode:
        return None
    else:
        amount, fill = _amount(name, conv, mode), mode
    if not _pads(conv) and not any(amount):
        return None
    unchanged = (conv.padding, conv.padding_mode) == (amount, fill)
    return None if unchanged else partial(_set_padding, amount=amount, fill=fill)


def _pads(conv: nn.Conv2d) -> bool:
    return any(_full(conv)) if conv.padding == "same" else conv.padding not in ((0, 0), "valid")


def _full(conv: nn.Conv2d) -> Pair:
    (kh, kw), (dh, dw) = conv.kernel_size, conv.dilation
    return dh * (kh - 1), dw * (kw - 1)


def _amount(name: str, conv: nn.Conv2d, mode: PaddingMode) -> Pair:
    """The padding (rows, columns) in numbers."""
    if conv.padding == "valid":
        return 0, 0
    if not isinstance(conv.padding, str):
        return conv.padding[0], conv.padding[1]
    rows, columns = _full(conv)
    if rows % 2 or columns % 2:
        reason = f"'same' is asymmetric for kernel {tuple(conv.kernel_size)}"
        raise refusal(mode, name, conv, reason, "give it an odd kernel, or padding in numbers")
    return rows // 2, columns // 2


def _set_padding(conv: Any, *, amount: Pair, fill: str) -> nn.Module:
    conv.padding, conv.padding_mode = amount, fill
    # What nn.Conv2d hands to F.pad unless it pads with zeros; columns first, and not kept up to date by itself.
    conv._reversed_padding_repeated_twice = [amount[1], amount[1], amount[0], amount[0]]
    return conv


def _own_conv_edit(conv: Any, mode: PaddingMode) -> Edit | None:
    """Of one of timm's convolutions, or of ours that stands for it."""
    window = window_of(conv)
    if window is None or _is_pointwise(window) or getattr(conv, "mode", "zeros") == mode:
        return None
    if not (window.same or any(window.padding)) and mode != "f-conv":
        return None
    if mode == "f-conv" and window.is_full:
        return None
    return partial(_own_conv_in_mode, mode=mode)


def _own_conv_in_mode(conv: Any, *, mode: PaddingMode) -> nn.Module:
    ours = conv if isinstance(conv, PaddedConv) else PaddedConv.of(conv, mode)
    return ours.in_mode(mode)


# ---- pools, and modules that only pad


def _pool_edit(name: str, pool: Any, mode: PaddingMode) -> Edit | None:
    if isinstance(pool, PaddedPool):
        return None if pool.mode == mode else partial(_rewrapped, mode=mode)
    window = window_of(pool)
    if window is None or not (window.same or any(window.padding)) or mode in _KEEP_POOLS:
        return None
    if mode != "none" and window.ceil and max(window.stride) > 1:
        raise refusal(mode, name, pool, *CEIL_MODE)
    return lambda m: _pool_in_mode(m, mode)


def _pool_in_mode(pool: Any, mode: PaddingMode) -> nn.Module:
    if mode in _KEEP_POOLS:
        return pool
    if mode == "none":
        return without_padding(pool)
    return PaddedPool(pool, mode)


def _adds_zeros(m: nn.Module) -> bool:
    return isinstance(m, nn.ConstantPad2d) and m.value == 0


def _map_edit(m: Any, mode: PaddingMode) -> Edit | None:
    if mode in _KEEP_POOLS and _adds_zeros(m):
        return None
    fill = "zeros" if mode == "f-conv" else mode
    return None if getattr(m, "mode", "") == fill else lambda old: PaddedMap(m.padding, fill)


def _rewrapped(wrapper: Any, *, mode: PaddingMode) -> nn.Module:
    return _pool_in_mode(wrapper.restored(), mode)


# ---- seen to run


def _check_runs(module: nn.Module, mode: PaddingMode, size: tuple[int, int, int]) -> None:
    error = _failure(module, size)
    if error is None:
        return
    seen = str(error).rstrip(".")
    raise InputError(
        f"mode={mode!r}: the network does not run on a picture of shape {size} (C, H, W) any more: {seen}. "
        f"{_likely_reason(mode)} {_advice(module, size, mode)}"
    ) from error


def _failure(module: nn.Module, size: tuple[int, int, int]) -> Exception | None:
    with evaluating(module), redirect_stderr(StringIO()):  # torch.fx prints where a graph failed
        try:
            module(blank_picture(module, size))
        except _FAILURES as error:
            return error
    return None


def _likely_reason(mode: PaddingMode) -> str:
    if mode == "none":
        return "Without padding maps shrink, to nothing, or to sizes that additions or concatenations cannot join."
    if mode == "f-conv":
        return "With full padding maps grow, to sizes that additions or concatenations cannot join."
    return f"Probably a map is too small for its padding: {mode!r} takes the padding from the map itself."


def _advice(module: nn.Module, size: tuple[int, int, int], mode: PaddingMode) -> str:
    side = _side_that_runs(module, size)
    if side:
        return f"It runs with input_size=({size[0]}, {side}, {side}); give that."
    others = [m for m in ("circular", "reflect", "replicate") if m != mode]
    return f"No larger input_size up to 1024 helps; choose {', '.join(others[:-1])} or {others[-1]} instead."


def _side_that_runs(module: nn.Module, size: tuple[int, int, int]) -> int | None:
    """The first larger multiple of 32 at which shapes fit; on the meta device nothing is computed."""
    try:
        shapes_only = copied(module).to("meta")
    except _FAILURES:
        return None
    larger = (s for s in range(32, 1025, 32) if s > max(size[1:]))
    return next((s for s in larger if _failure(shapes_only, (size[0], s, s)) is None), None)
