"""The same network with another padding: what it pads with, or how much (a control for where position comes from).

Sources: Islam et al. 2020 and 2021 (position comes from zero padding); Kayhan & van Gemert, CVPR 2020, whose
F-Conv pads with dilation * (k - 1) zeros, so that every weight sees every pixel.
Deviations: ours is surgery on any network, with its weights, rather than an architecture trained so. Under `none` and
`f-conv` a residual block's shortcut is cropped or zero-padded around its centre to the size of the branch; at a stride
the two may then be up to one pixel of the block's input out of register. Max-pools are part of it: their own padding is
with -inf, and `reflect`, `replicate` and `circular` replace that too; `zeros` and `f-conv` leave pools as they are.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from whatwhere.errors import InputError, unknown
from whatwhere.hold.shortcuts import fit_shortcuts
from whatwhere.hold.uneven import WINDOWED, Pair, Window, window_of
from whatwhere.network import N, Network, as_module, check_finite
from whatwhere.site import blank_picture, evaluating, expected_input_size
from whatwhere.site_table import list_sites
from whatwhere.surgery import Edit, Replaced, as_given, copied, edit, record

PaddingMode = Literal["zeros", "reflect", "replicate", "circular", "none", "f-conv"]
PADDINGS: tuple[PaddingMode, ...] = ("zeros", "reflect", "replicate", "circular", "none", "f-conv")
_POOLS = (nn.MaxPool2d, nn.AvgPool2d)
_KEEP_POOLS = ("zeros", "f-conv")
_PADDERS = {  # modules that pad with what a mode asks for need no change
    "ZeroPad2d": "zeros",
    "ReflectionPad2d": "reflect",
    "ReplicationPad2d": "replicate",
    "CircularPad2d": "circular",
}
_FAILURES = (RuntimeError, ValueError, TypeError, IndexError, AssertionError, NotImplementedError)


@dataclass(frozen=True)
class PaddingReport:
    """What `with_padding` did; the new module carries it as its attribute `surgery`.

    Attributes:
        mode: the padding that every spatial convolution and pool has now.
        input_size: (C, H, W) of the blank picture on which the new network was seen to run.
        replaced: every module that changed, and every shortcut that is fitted to its branch; empty if none had to.
    """

    mode: PaddingMode
    input_size: tuple[int, int, int]
    replaced: tuple[Replaced, ...]

    def __str__(self) -> str:
        """A summary line, then one line for each replacement."""
        head = f"padding {self.mode}: {len(self.replaced)} modules changed; runs on {self.input_size}."
        return "\n".join([head, *(f"  {r}" for r in self.replaced)])


def with_padding(net: N, mode: PaddingMode, *, input_size: tuple[int, int, int] | None = None) -> N:
    """A new network with the same weights, in which every spatial convolution and pool pads in one way.

    >>> wrapped = with_padding(net, "circular")          # no borders that reveal position
    >>> print(wrapped.surgery)                           # what changed

    `zeros`, `reflect`, `replicate` and `circular` keep the amount of padding and change what it is filled with.
    `none` removes it, and `f-conv` pads with dilation * (k - 1) zeros on each side: maps shrink or grow.

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
    module, replaced = edit(net, edits) if edits else (copied(given), [])
    if mode in ("none", "f-conv"):
        replaced += fit_shortcuts(module, [r.name for r in replaced])
    _check_runs(net, module, mode, size)
    module.__dict__["surgery"] = PaddingReport(mode, size, tuple(replaced))  # a plain attribute
    record(module, net, "hold.with_padding", mode=mode, input_size=size)
    new = as_given(net, module, f"{getattr(net, 'name', '')} + padding {mode}")
    return replace(new, input_size=size) if input_size and isinstance(new, Network) else new


def _edits(module: nn.Module, mode: PaddingMode) -> dict[str, Edit]:
    found = {name: _edit_for(name, m, mode) for name, m in module.named_modules() if not _is_inner(module, name)}
    edits = {name: e for name, e in found.items() if e is not None}
    _refuse_shared_pools(module, edits)
    return edits


def _is_inner(module: nn.Module, name: str) -> bool:
    """Whether this is the pool inside of a wrapper of ours, which is dealt with as a whole."""
    return bool(name) and isinstance(module.get_submodule(name.rpartition(".")[0]), PaddedPool)


def _edit_for(name: str, m: nn.Module, mode: PaddingMode) -> Edit | None:
    _refuse_padders(name, m, mode)
    if isinstance(m, WINDOWED) and _pads_by_itself(name, m, mode):
        return None
    if isinstance(m, nn.Conv2d):
        return _conv_edit(name, m, mode)
    return _pool_edit(name, m, mode) if isinstance(m, (*_POOLS, PaddedPool)) else None


# ---- refusals


def _refuse_padders(name: str, m: nn.Module, mode: PaddingMode) -> None:
    """Stop at modules that pad, but are neither convolutions nor pools that we can change."""
    if isinstance(m, nn.ConvTranspose2d) and mode != "zeros" and any(m.padding):
        raise _refusal(mode, name, m, "its padding crops the output of a transposed convolution", "give it padding 0")
    if _is_padder(m) and _PADDERS.get(type(m).__name__) != mode and getattr(m, "pad_mode", None) != mode:
        raise _refusal(mode, name, m, "it pads by itself", "let the next nn.Conv2d pad instead")


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
    raise _refusal(mode, name, m, "it has a forward of its own, which may pad by itself", f"replace it by {by}")


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
        if isinstance(m, (*_POOLS, PaddedPool)) and (names[id(m)] > 1 or not name):
            where = "it is registered under several names" if name else "it is the whole network"
            raise InputError(f"{name or 'net'}: this {type(m).__name__} pads, and {where}; give each place its own.")


def _refusal(mode: str, name: str, m: nn.Module, reason: str, fix: str) -> InputError:
    return InputError(
        f"mode={mode!r}: cannot change the padding of {name or 'net'}, a {type(m).__name__}: {reason}; {fix}."
    )


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
        raise _refusal(mode, name, conv, reason, "give it an odd kernel, or padding in numbers")
    return rows // 2, columns // 2


def _set_padding(conv: Any, *, amount: Pair, fill: str) -> nn.Module:
    conv.padding, conv.padding_mode = amount, fill
    # What nn.Conv2d hands to F.pad unless it pads with zeros; columns first, and not kept up to date by itself.
    conv._reversed_padding_repeated_twice = [amount[1], amount[1], amount[0], amount[0]]
    return conv


# ---- pools


class PaddedPool(nn.Module):
    """Pad in some mode, then pool without padding.

    Args:
        pool: an `nn.MaxPool2d` or `nn.AvgPool2d` with padding; it becomes a part of this, with padding 0.
        mode: reflect, replicate or circular.
    """

    def __init__(self, pool: nn.MaxPool2d | nn.AvgPool2d, mode: str) -> None:
        super().__init__()
        window = window_of(pool)
        assert window
        self.padding, self.mode, self.training = window.padding, mode, pool.training
        self.pool: Any = pool
        pool.padding = 0

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the pool's (N, C, H', W')."""
        rows, columns = self.padding
        return self.pool(F.pad(x, (columns, columns, rows, rows), mode=self.mode))

    def restored(self) -> nn.Module:
        """The pool with the padding it had."""
        self.pool.padding = self.padding
        return self.pool

    def extra_repr(self) -> str:
        """The padding, for reports."""
        return f"padding={self.padding}, mode={self.mode}"


def _pool_edit(name: str, pool: Any, mode: PaddingMode) -> Edit | None:
    if isinstance(pool, PaddedPool):
        return None if pool.mode == mode else partial(_rewrapped, mode=mode)
    window = window_of(pool)
    if window is None or not any(window.padding) or mode in _KEEP_POOLS:
        return None
    if mode != "none" and window.ceil and max(window.stride) > 1:
        reason = "in ceil_mode, whether there is a last window depends on where the map ends"
        raise _refusal(mode, name, pool, reason, "set its ceil_mode to False")
    return lambda m: _pool_in_mode(m, mode)


def _pool_in_mode(pool: Any, mode: PaddingMode) -> nn.Module:
    if mode in _KEEP_POOLS:
        return pool
    if mode == "none":
        pool.padding = 0
        return pool
    return PaddedPool(pool, mode)


def _rewrapped(wrapper: Any, *, mode: PaddingMode) -> nn.Module:
    return _pool_in_mode(wrapper.restored(), mode)


# ---- seen to run


def _check_runs(net: nn.Module | Network, module: nn.Module, mode: PaddingMode, size: tuple[int, int, int]) -> None:
    error = _failure(module, size)
    if error is None:
        return
    list_sites(net, input_size=size)  # if the network as given does not run either, this says so
    seen = str(error).rstrip(".")
    raise InputError(
        f"mode={mode!r}: the network does not run on a picture of shape {size} (C, H, W) any more: {seen}. "
        f"{_likely_reason(mode)} {_advice(module, size, mode)}"
    ) from error


def _failure(module: nn.Module, size: tuple[int, int, int]) -> Exception | None:
    with evaluating(module):
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
