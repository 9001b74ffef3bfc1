"""Insert recalibration into a network: in residual branches before the addition, on the new maps of dense layers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from whatwhere.errors import InputError, unknown
from whatwhere.layers import branch_parts
from whatwhere.network import N, as_module, running
from whatwhere.site import Selection, Sites, blank_picture, evaluating, expected_input_size
from whatwhere.site_table import list_sites
from whatwhere.surgery import Replaced, as_given, copied, count_parameters, describe, modules_that_ran, put, record
from whatwhere.use.ms_sar import MSSAR, SE

OWN: Mapping[str, Callable[..., nn.Module]] = {"ms_sar": MSSAR, "se": SE}
Make = Callable[[int], nn.Module]


@dataclass(frozen=True)
class RecalibrationReport:
    """What `recalibrate` did; the new module carries it as its attribute `surgery`.

    Attributes:
        method: the inserted module's name.
        inserted: where modules were inserted, and what they are.
        parameters: numbers of parameters before and after.
        flops: floating-point operations for one picture before and after, of convolutions and linear layers.
    """

    method: str
    inserted: tuple[Replaced, ...]
    parameters: tuple[int, int]
    flops: tuple[int, int]

    def __str__(self) -> str:
        """A summary line, then one line for each module."""
        (p0, p1), (f0, f1) = self.parameters, self.flops
        head = (
            f"{self.method}: {len(self.inserted)} modules inserted; parameters {p0:,} -> {p1:,} (+{p1 / p0 - 1:.2%}), "
            f"FLOPs {f0:,} -> {f1:,} (+{f1 / max(f0, 1) - 1:.2%})."
        )
        return "\n".join([head, *(f"  {r}" for r in self.inserted)])


def recalibrate(
    net: N,
    method: str | type[nn.Module] | Make = "ms_sar",
    *,
    sites: Selection = None,
    input_size: tuple[int, int, int] | None = None,
    seed: int = 0,
    **options: Any,
) -> N:
    """A new network with recalibration modules inside.

    >>> gated = ww.use.recalibrate(net, "ms_sar", scales=(1, 2), identity_init=True)
    >>> print(gated.module.surgery)

    Args:
        net: the network; it is not changed, and the new one starts from its weights.
        method: `ms_sar`, `se`, the name of one of timm's attention modules (`eca`, `cbam`, `ge`, ...), a module class,
            or a function from a number of channels to a module.
        sites: residual blocks or dense layers to recalibrate; None is all of them.
        input_size: (C, H, W) of one picture on which the new network must run; None takes the network's own.
        seed: of the new modules' weights; the global random state is restored.
        **options: settings of the method, such as `ratio` and `scales`.

    Returns:
        A module for a module, a `Network` for a `Network`. The module's attribute `surgery` is the
        `RecalibrationReport`.

    Raises:
        InputError: for an unknown method, options that it does not take, a network or selection without residual blocks
            and dense layers, or inserted modules that did not run.
    """
    make, name = maker(method, options), _name(method)
    size = input_size or expected_input_size(net)
    before = list_sites(net, input_size=size)
    module = copied(as_module(net))
    places = [n for n, m in module.named_modules() if place_of(m)]
    wanted = places if sites is None else _holding(before, places, sites)
    if not wanted:
        there = ", ".join(places[:8]) or "none"
        where = "the network" if sites is None else f"sites={sites!r}"
        raise InputError(
            f"{where} holds no residual block (conv1, bn1, conv2, downsample) and no dense layer; "
            f"places in this network: {there}."
        )
    channels = _channels(module, dict.fromkeys(wanted), size)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        inserted = [_insert(module, place, make, count) for place, count in channels.items()]
    _check_ran(module, size, inserted)
    report = RecalibrationReport(
        name,
        tuple(inserted),
        (count_parameters(as_module(net)), count_parameters(module)),
        (before.total_flops, list_sites(module, input_size=size).total_flops),
    )
    module.__dict__["surgery"] = report
    chosen = None if sites is None else wanted
    record(module, net, "use.recalibrate", method=method, sites=chosen, input_size=size, seed=seed, **options)
    return as_given(net, module, f"{getattr(net, 'name', '')} + {name}")


def _holding(table: Sites, places: Sequence[str], sites: Selection) -> list[str]:
    """The places in the selected sites; a dense layer is not a site, and is selected by its last convolution."""
    own = {s.module for s in table}
    dense = {p: f"{p}.conv2" for p in places if p not in own}
    given = [sites] if isinstance(sites, str) else sites
    if isinstance(given, Sequence) and all(isinstance(g, str) for g in given):
        sites = [c for g in given for c in [dense[p] for p in dense if _fits(p, str(g))] or [str(g)]]
    chosen = {s.module for s in table.select(sites)}
    around = tuple(f"{c}." for c in chosen)  # a stage selects the blocks in it
    return [p for p in places if p in chosen or dense.get(p) in chosen or p.startswith(around)]


def _fits(place: str, pattern: str) -> bool:
    return place == pattern or fnmatchcase(place, pattern)  # a name with brackets in it fits itself


def _channels(module: nn.Module, places: Iterable[str], size: tuple[int, int, int]) -> dict[str, int]:
    """The channels of the maps that leave each place, from one forward pass: any norm may stand there, or none.

    Raises:
        InputError: for a place that does not run, or gives no map.
    """
    found: dict[str, int] = {}
    handles = [_last(module, place).register_forward_hook(_noting(found, place)) for place in places]
    try:
        with evaluating(module), running(module, size):
            module(blank_picture(module, size))
    finally:
        for handle in handles:
            handle.remove()
    idle = [place for place in places if place not in found]
    if idle:
        raise InputError(f"these places never ran, or gave no map (N, C, H, W): {', '.join(idle)}; leave them out.")
    return {place: found[place] for place in places}


def _noting(found: dict[str, int], place: str) -> Callable[..., None]:
    def hook(_module: nn.Module, _args: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            found[place] = output.shape[1]

    return hook


def _last(module: nn.Module, place: str) -> nn.Module:
    block = module.get_submodule(place)
    return block.get_submodule(place_of(block) or "")


def maker(method: str | type[nn.Module] | Make, options: Mapping[str, Any]) -> Make:
    """A function from a number of channels to a module.

    Raises:
        InputError: for an unknown name, or options that the method does not take.
    """
    build = _named(method) if isinstance(method, str) else method

    def make(channels: int) -> nn.Module:
        try:
            made = build(channels, **options)
        except TypeError as error:
            raise InputError(f"method={_name(method)!r} cannot be made with {dict(options)}: {error}.") from error
        if not isinstance(made, nn.Module):
            raise InputError(
                f"method={_name(method)!r} makes a {type(made).__name__} of {channels} channels; expected a module."
            )
        return made

    return make


def _named(name: str) -> Callable[..., nn.Module]:
    if name in OWN:
        return OWN[name]
    from timm.layers.create_attn import get_attn  # takes seconds to import

    try:
        found: Any = get_attn(name)
    except (AssertionError, KeyError, ValueError, RuntimeError):
        found = None
    if found is None:
        raise unknown("method", name, dict.fromkeys((*OWN, *TIMM)))
    return found


# The names that timm's ResNets take; timm's other modules need further arguments.
TIMM = ("se", "ese", "eca", "ecam", "ge", "gc", "gca", "cbam", "lcbam", "coord", "simam", "sk", "splat", "nl", "bat")


def _name(method: object) -> str:
    return method if isinstance(method, str) else getattr(method, "__name__", type(method).__name__)


def place_of(block: nn.Module) -> str | None:
    """The submodule of a block after which recalibration is inserted; None if the module is not such a block.

    In a residual block it is the last layer of the branch before the addition, a normalisation or (pre-activation) a
    convolution; in a dense layer the last convolution, which makes the new maps.
    """
    if parts := branch_parts(block):
        return parts[-1]
    return "conv2" if all(hasattr(block, n) for n in ("norm1", "conv1", "norm2", "conv2")) else None


def _insert(module: nn.Module, place: str, make: Make, channels: int) -> Replaced:
    block = module.get_submodule(place)
    last = place_of(block)
    assert last
    old: Any = block.get_submodule(last)
    if isinstance(old, Recalibrated):
        raise InputError(f"{place} is already recalibrated: {describe(old)}; give the plain network.")
    gate = make(channels)
    like = next(module.parameters())
    gate.to(device=like.device, dtype=like.dtype).train(old.training)
    name = f"{place}.{last}".lstrip(".")
    put(module, name, Recalibrated(old, gate))
    return Replaced(name, describe(old), describe(gate))


class Recalibrated(nn.Sequential):
    """A layer and the recalibration of its output; weights saved without the recalibration still load.

    Args:
        layer: the layer; its output is a map.
        gate: the recalibration module.
    """

    def __init__(self, layer: nn.Module, gate: nn.Module) -> None:
        super().__init__(OrderedDict(layer=layer, gate=gate))
        self.register_load_state_dict_pre_hook(_accept_plain)

    def forward(self, *args: Any, **options: Any) -> Any:
        """The layer's output, recalibrated, however the layer is called."""
        layer, gate = self
        return gate(layer(*args, **options))


def _accept_plain(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Rename the tensors of a network without recalibration as this module expects them."""
    own = [k for k in state if k.startswith(prefix)]
    if any(k.startswith((f"{prefix}layer.", f"{prefix}gate.")) for k in own):
        return
    for key in own:
        state[f"{prefix}layer.{key.removeprefix(prefix)}"] = state.pop(key)


def _check_ran(module: nn.Module, size: tuple[int, int, int], inserted: Sequence[Replaced]) -> None:
    with evaluating(module):
        try:
            ran = modules_that_ran(module, blank_picture(module, size))
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
            raise InputError(
                f"the recalibrated network does not run on a picture of shape {size} (C, H, W): {error}. Choose "
                "another method or other options, or give input_size=(C, H, W)."
            ) from error
    idle = [r.name for r in inserted if f"{r.name}.gate" not in ran]
    if idle:
        raise InputError(f"these modules were inserted but never ran: {', '.join(idle)}.")
