"""What "works" means in the coverage table: each operation against an oracle that knows neither graph nor surgery.

The oracles watch the running network: hooks that change a map in place, so that whoever reads it sees the change, and
modes that see every operator. A check returns what to say of a cell, raises `InputError` where the product refuses, and
`AssertionError` where the product is wrong.
"""

from __future__ import annotations

import copy
import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import whatwhere as ww
from borderless_oracle import Borderless
from small_gates import branches_gone, shut
from whatwhere.errors import InputError
from whatwhere.layers import map_in
from whatwhere.maps import as_maps, from_maps
from whatwhere.models.exported import export
from whatwhere.need.averaging import pool
from whatwhere.need.shuffling import shuffle
from whatwhere.need.studies.leaks import leak_notes
from whatwhere.site import Site, Sites

Size = tuple[int, int, int]
CLOSE = 1e-4  # of the largest score
Change = Callable[[Tensor], Tensor]


class Refused(InputError):
    """At some places only, or with a note that says what is left."""


def pictures(size: Size, seed: int = 1) -> Tensor:
    """Two random pictures."""
    return torch.randn(2, *size, generator=torch.Generator().manual_seed(seed))


def spread(cuts: Sequence[Site], count: int = 3) -> list[Site]:
    """The first, the last, and some between."""
    if len(cuts) <= count:
        return list(cuts)
    return [cuts[round(i * (len(cuts) - 1) / (count - 1))] for i in range(count)]


def apart(a: Any, b: Any) -> float:
    """The largest difference of two outputs, as a share of the largest score."""
    a, b = _one(a), _one(b)
    assert a.shape == b.shape, (a.shape, b.shape)
    return float((a - b).abs().max()) / max(float(b.abs().max()), 1e-12)


def _one(output: Any) -> Tensor:
    found = output if isinstance(output, Tensor) else next(iter(output.values()))
    assert isinstance(found, Tensor)
    assert bool(found.isfinite().all())
    return found


def at_call(net: nn.Module, site: Site, look: Callable[[Tensor], None]) -> list[Any]:
    """Hooks that show the tensor that enters a site, in each forward pass of the network."""
    calls = 0

    def hook(m: nn.Module, args: Any, kwargs: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == site.call:
            x = map_in(args, kwargs)
            assert x is not None
            look(x)

    def begin(m: nn.Module, args: Any) -> None:
        nonlocal calls
        calls = 0

    module = net.get_submodule(site.module)
    return [net.register_forward_pre_hook(begin), module.register_forward_pre_hook(hook, with_kwargs=True)]


@contextmanager
def entering(net: nn.Module, site: Site, change: Change, *, whole: bool = False) -> Iterator[list[Tensor]]:
    """Change in place the map that enters a site, whoever else reads it; gives the maps that were seen.

    With `whole` the tensor as it is, a class token among its tokens.
    """
    seen = list[Tensor]()

    def change_it(x: Tensor) -> None:
        maps = x if whole else as_maps(x, site)
        seen.append(maps.clone())
        new = change(maps.clone())
        x.copy_(new if whole else from_maps(new, x, site).clone())

    handles = [
        net.register_forward_pre_hook(
            lambda _, args: tuple(a.clone() for a in args)
        ),  # the caller's stay what they were
        *at_call(net, site, change_it),
    ]
    try:
        with torch.no_grad():
            yield seen
    finally:
        for handle in handles:
            handle.remove()


def moved(maps: Tensor) -> Tensor:
    """Maps with their positions in another order, alike in all channels."""
    order = torch.randperm(maps[0, 0].numel(), generator=torch.Generator().manual_seed(4))
    return maps.flatten(2)[..., order].view_as(maps)


# ---- sites


def check_sites(net: nn.Module, size: Size) -> str:
    """Every convolution that gets a map of more than one position is a site, once for each call, with its shape."""
    table = ww.sites(net, input_size=size)
    expected = _convolutions_that_ran(net, size)
    found = [(s.module, s.call, s.shape_in) for s in table if isinstance(net.get_submodule(s.module), nn.Conv2d)]
    assert found == expected
    return f"{len(table)}"


def _convolutions_that_ran(net: nn.Module, size: Size) -> list[tuple[str, int, tuple[int, ...]]]:
    seen: list[tuple[str, int, tuple[int, ...]]] = []
    calls: Counter[str] = Counter()

    def note(name: str) -> Any:
        def hook(m: nn.Module, args: Any) -> None:
            calls[name] += 1
            if args[0].shape[2] * args[0].shape[3] > 1:
                seen.append((name, calls[name], tuple(args[0].shape[1:])))

        return hook

    convs = [(n, m) for n, m in net.named_modules() if isinstance(m, nn.Conv2d)]
    handles = [m.register_forward_pre_hook(note(n)) for n, m in convs]
    with torch.no_grad():
        net(pictures(size))
    for handle in handles:
        handle.remove()
    return seen


# ---- cuts


def check_cuts(net: nn.Module, size: Size) -> str:
    """With the map at a cut taken from other pictures, the network answers as for these: nothing goes round."""
    cuts = _cuts(net, size)
    a, b = pictures(size), pictures(size, 2)
    with torch.no_grad():
        mine, others = net(a), net(b)
    assert apart(mine, others) > 1e-3, "the network gives the same for all pictures"
    for cut in spread(cuts, 5):
        with entering(net, cut, lambda x: x, whole=True) as seen:
            net(b)
        with entering(net, cut, lambda _, seen=seen: seen[0], whole=True):  # type: ignore[misc]
            assert apart(net(a), others) < CLOSE, f"something goes round {cut.name}"
    return f"{len(cuts)}"


def _cuts(net: nn.Module, size: Size) -> Sites | list[Site]:
    cuts = ww.sites(net, input_size=size).cuts
    if not cuts:
        raise InputError("no place that nothing goes round")
    return list(cuts)


# ---- shuffle and pool, from a cut on


def check_shuffle(net: nn.Module, size: Size) -> str:
    """What enters each place is permuted; pooled at the same places, no position matters."""
    table = ww.sites(net, input_size=size)
    x = pictures(size)
    with torch.no_grad():
        intact = net(x)
    cuts = spread(_cuts(net, size))
    for cut in cuts:
        which = f"{cut.name}:"
        acts = shuffle(net, which, mode="shared", table=table)
        _check_permutes(net, acts, x)
        assert acts.matched == pool(net, which, table=table).matched
        with torch.no_grad():
            assert torch.equal(_one(net(x)), _one(intact)), "the network is not what it was"
    _check_nothing_left(net, table, cuts, x)
    return f"at {len(cuts)} cuts"


def _check_permutes(net: nn.Module, acts: Any, x: Tensor) -> None:
    before, after = dict[str, Tensor](), dict[str, Tensor]()
    sites = list(acts.inputs)
    notes = [h for s in sites for h in _noted(net, s, before)]
    with acts, torch.no_grad():
        notes += [h for s in sites for h in _noted(net, s, after)]
        net(x)  # a transformer's scores do not mind the order of its tokens
    for handle in notes:
        handle.remove()
    for s in sites:
        one, other = before[s.name].flatten(2), after[s.name].flatten(2)
        assert torch.equal(one.sort(-1).values, other.sort(-1).values), f"{s.name} is not permuted"
    assert any(not torch.equal(before[s.name], after[s.name]) for s in sites)


def _noted(net: nn.Module, site: Site, seen: dict[str, Tensor]) -> list[Any]:
    return at_call(net, site, lambda x: seen.update({site.name: as_maps(x, site).clone()}))


def check_pool(net: nn.Module, size: Size) -> str:
    """Pooled from a cut on, the positions of the map there do not matter to the output."""
    table = ww.sites(net, input_size=size)
    cuts = spread(_cuts(net, size))
    _check_nothing_left(net, table, cuts, pictures(size))
    return f"at {len(cuts)} cuts"


def _check_nothing_left(net: nn.Module, table: Sites, cuts: Sequence[Site], x: Tensor) -> None:
    noted = []
    for cut in cuts:
        with entering(net, cut, lambda maps: maps), pool(net, f"{cut.name}:", table=table):
            plain = net(x)
        with entering(net, cut, moved), pool(net, f"{cut.name}:", table=table):
            left = apart(net(x), plain)
        if left > CLOSE:
            notes = leak_notes(ww.Network(net), table, [cut])
            assert notes, (
                f"from {cut.name} on, something still varies ({left:.1e} of the largest score), without a note"
            )
            noted.append(f"{cut.name}: {notes[0]}")
    if noted:
        raise Refused(f"something is left, and a note says so: {'; '.join(noted)}")


# ---- collapse


def check_collapse(net: nn.Module, size: Size) -> str:
    """The smaller network gives what the running network gives for a map made constant, without borders after it."""
    table = ww.sites(net, input_size=size)
    cuts, x, refused = spread(_cuts(net, size)), pictures(size), []
    for cut in cuts:
        try:
            small = ww.need.collapse(net, cut.name, input_size=size)
        except InputError as error:
            refused.append(str(error))
            continue
        _check_collapsed(net, small, cut, x)
        assert small.surgery.flops[1] < small.surgery.flops[0]
    if refused:
        places = "everywhere" if len(refused) == len(cuts) else f"at {len(refused)} of {len(cuts)} cuts"
        raise Refused(f"{places}: {refused[0]}")
    assert len(table)
    return f"at {len(cuts)} cuts"


def _check_collapsed(net: nn.Module, small: Any, cut: Site, x: Tensor) -> None:
    gap = small.get_submodule(small.pooled_by)
    with torch.no_grad():
        given = _one(small(x))
        handle = gap.register_forward_pre_hook(lambda _, args: (_tokens_moved(args[0], cut),))
        assert apart(small(x), given) < CLOSE, f"positions matter after {cut.name}"
        handle.remove()
    if cut.layout.startswith("tokens") and not cut.layout.endswith("+0"):
        return  # one pooled token weighs otherwise beside a class token than many equal ones
    mode = Borderless()

    def enter(maps: Tensor) -> Tensor:
        mode.on = True
        return maps.mean((2, 3), keepdim=True).expand_as(maps).contiguous()

    with mode, entering(net, cut, enter):
        expected = _one(net(x))
    if apart(given, _central(expected, given)) >= CLOSE and x.dtype == torch.float32:
        exact = copy.deepcopy(net).double()  # is it rounding?
        small = ww.need.collapse(exact, cut.name, input_size=tuple(x.shape[1:]))
        return _check_collapsed(exact, small, cut, x.double())
    assert apart(given, _central(expected, given)) < CLOSE, f"other scores than without borders, at {cut.name}"


def _tokens_moved(x: Tensor, site: Site) -> Tensor:
    return from_maps(moved(as_maps(x, site)), x, site)


def _central(scores: Tensor, like: Tensor) -> Tensor:
    if scores.ndim == 4 and scores.shape != like.shape:
        h, w = scores.shape[2] // 2, scores.shape[3] // 2
        return scores[:, :, h : h + 1, w : w + 1]
    return scores


# ---- recalibrate


def check_recalibrate(net: nn.Module, size: Size) -> str:
    """Gates of 1 change nothing; with gates of 0 as many branches are gone as there are gates, before none."""
    gated = ww.use.recalibrate(net, "ms_sar", identity_init=True, input_size=size)
    x = pictures(size)
    with torch.no_grad():
        assert torch.equal(_one(gated(x)), _one(net(x))), "gates of 1 change the scores"
    count = len(gated.surgery.inserted)
    before = branches_gone(gated, x)
    shut(gated)
    gone = branches_gone(gated, x)
    assert before == 0
    assert gone == count > 0, f"{count} gates of 0, and {gone} branches are gone"
    return f"{count} gates"


# ---- padding


class ZeroPads(TorchDispatchMode):
    """Counts the operators that add rows or columns of zeros to a map, as the machine runs them."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name == "convolution":
            x, weight, padding = args[0], args[1], args[4]
            self.count += any(p > 0 for p in padding) and weight.shape[-1] * weight.shape[-2] > 1 and x.ndim == 4
        elif name == "constant_pad_nd":
            self.count += _adds_positions(args[0], args[1])
        elif name in ("max_pool2d_with_indices", "avg_pool2d"):
            self.count += len(args) > 3 and any(p > 0 for p in args[3])
        return func(*args, **(kwargs or {}))


def _adds_positions(x: Tensor, pad: Sequence[int]) -> bool:
    """Rows or columns; zeros that are added to channels, in whichever layout, are none of a border."""
    axes = [x.ndim - 1 - i // 2 for i, p in enumerate(pad) if p > 0]
    return x.ndim == 4 and bool(axes)


def zero_pads(net: nn.Module, x: Tensor) -> int:
    """How often a network adds zeros around a map."""
    with torch.no_grad(), ZeroPads() as mode:
        net(x)
    return mode.count


def check_padding(net: nn.Module, size: Size) -> str:
    """With reflected pads no zeros are added any more, the shape of the output stays, and the scores change."""
    x = pictures(size)
    before = zero_pads(net, x)
    changed = ww.hold.with_padding(net, "reflect", input_size=size)
    left = zero_pads(changed, x)
    assert left == 0, f"{left} of {before} operators still pad with zeros"
    with torch.no_grad():
        assert not before or apart(changed(x), net(x)) > 1e-6
    return f"{before} -> 0 zero pads"


# ---- export


def check_export(net: nn.Module, size: Size) -> str:
    """The network, collapsed where that works, gives under onnxruntime what it gives here, on a batch of two."""
    import onnxruntime

    what, module = _smaller(net, size)
    with TemporaryDirectory() as folder, redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        file = Path(folder) / "net.onnx"
        try:
            export(module, file, input_size=size)
        except InputError as error:
            raise InputError(str(error).replace(str(file), file.name)) from error
        session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    x = pictures(size, 3)
    (given,) = session.run(None, {"pictures": x.numpy()})
    with torch.no_grad():
        assert apart(torch.from_numpy(given), module(x)) < CLOSE
    return what


def _smaller(net: nn.Module, size: Size) -> tuple[str, nn.Module]:
    try:
        cuts = _cuts(net, size)
        return "collapsed", ww.need.collapse(net, cuts[len(cuts) // 2].name, input_size=size)
    except InputError:
        return "as it is", net


CHECKS: dict[str, Callable[[nn.Module, Size], str]] = {
    "sites": check_sites,
    "cuts": check_cuts,
    "shuffle from": check_shuffle,
    "pool from": check_pool,
    "collapse": check_collapse,
    "recalibrate": check_recalibrate,
    "padding": check_padding,
    "export": check_export,
}
