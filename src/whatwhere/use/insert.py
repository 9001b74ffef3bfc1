"""Insert recalibration into a network: at the end of residual branches, on the new maps of dense layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from whatwhere.errors import InputError, unknown
from whatwhere.graph.flow import Flow
from whatwhere.network import N, as_module
from whatwhere.site import Selection, Sites, blank_picture, evaluating, expected_input_size
from whatwhere.site_table import list_sites
from whatwhere.surgery import Replaced, as_given, copied, count_parameters, describe, put, record
from whatwhere.use.closed import check_closed
from whatwhere.use.ms_sar import MSSAR, SE
from whatwhere.use.places import Place, Places
from whatwhere.use.reasons import left_out_in, why_chosen, why_network
from whatwhere.use.recalibrated import Recalibrated

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
        kept: gates that the network had before, and has still.
        left_out: of what was chosen, residual branches that have no place for a gate, by block, and why.
    """

    method: str
    inserted: tuple[Replaced, ...]
    parameters: tuple[int, int]
    flops: tuple[int, int]
    kept: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """A summary line, then one line for each module."""
        (p0, p1), (f0, f1) = self.parameters, self.flops
        head = (
            f"{self.method}: {len(self.inserted)} modules inserted; parameters {p0:,} -> {p1:,} (+{p1 / p0 - 1:.2%}), "
            f"FLOPs {f0:,} -> {f1:,} (+{f1 / max(f0, 1) - 1:.2%})."
        )
        return "\n".join([head, *self._notes(), *(f"  {r}" for r in self.inserted)])

    def _notes(self) -> Iterator[str]:
        if self.kept:
            yield (
                f"The network keeps {len(self.kept)} gates of its own ({', '.join(self.kept[:3])}"
                f"{', …' if len(self.kept) > 3 else ''}); replace=True puts these in their places."
            )
        for block, why in self.left_out.items():
            yield f"Left out: {block}: {why}."


def recalibrate(
    net: N,
    method: str | type[nn.Module] | Make = "ms_sar",
    *,
    sites: Selection = None,
    replace: bool = False,
    input_size: tuple[int, int, int] | None = None,
    seed: int = 0,
    **options: Any,
) -> N:
    """A new network with recalibration modules inside.

    >>> gated = ww.use.recalibrate(net, "ms_sar", scales=(1, 2), identity_init=True)
    >>> print(gated.module.surgery)

    The places are found from the network's dataflow: wherever a map is added to what was computed from it, the branch
    is recalibrated at its end; wherever a layer's new maps are concatenated with what it was computed from, these are.
    Each gate is seen to run, and to shut its branch when it gives zeros.

    Args:
        net: the network; it is not changed, and the new one starts from its weights.
        method: `ms_sar`, `se`, the name of one of timm's attention modules (`eca`, `cbam`, `ge`, ...), a module class,
            or a function from a number of channels to a module.
        sites: residual blocks or dense layers to recalibrate; None is all of them.
        replace: put the modules in the places of gates that the network has (squeeze-and-excitation and the like),
            inside of branches and elsewhere; branches that have one get no other. False leaves those gates alone.
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
    places = Places(before.dataflow.flow, before)
    wanted, left_out = _wanted(places, before, sites, replace)
    module = copied(as_module(net))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        inserted = [_insert(module, place, make) for place in wanted]
    _check_ran(module, size, wanted)
    check_closed(places, module, [p for p in wanted if p.gate is None])
    report = RecalibrationReport(
        name,
        tuple(inserted),
        (count_parameters(as_module(net)), count_parameters(module)),
        (before.total_flops, list_sites(module, input_size=size).total_flops),
        tuple(places.name_of(g) for g in places.gates if g not in [p.gate for p in wanted]),
        left_out,
    )
    module.__dict__["surgery"] = report
    kept = {"sites": None if sites is None else [p.module for p in wanted], **({"replace": True} if replace else {})}
    record(module, net, "use.recalibrate", method=method, **kept, input_size=size, seed=seed, **options)
    return as_given(net, module, f"{getattr(net, 'name', '')} + {name}")


def _wanted(places: Places, table: Sites, sites: Selection, replace: bool) -> tuple[list[Place], dict[str, str]]:
    """The places in the selected sites, and the branches in these that have none.

    Raises:
        InputError: if there are none, if a block never runs, or if one is recalibrated already.
    """
    there = places.with_gates_replaced if replace else places.at_ends
    if replace and not places.own_gates:
        raise InputError("replace=True: the network has no module that is a gate already; leave replace out.")
    if not there:
        raise InputError(f"the network holds no residual block and no dense layer: {why_network(places)}.")
    if sites is None:
        _check_blocks(places.flow, there, every=True)
        return list(there), places.left_out
    found = [_selected(places, there, table, part) for part in _parts(sites)]
    wanted = [p for p in there if any(p in chosen for chosen, _ in found)]
    _check_blocks(places.flow, wanted, every=False)
    return wanted, left_out_in(places, {name for _, names in found for name in names})


def _parts(sites: Selection) -> Sequence[Any]:
    return sites if isinstance(sites, Sequence) and sites and not isinstance(sites, str | nn.Module) else [sites]


def _selected(places: Places, there: Sequence[Place], table: Sites, part: Any) -> tuple[list[Place], set[str]]:
    """Those that one part of a selection names: a block, what holds it, or the module behind which the gate stands.

    A dense layer, whose input is a list, is no site; nor need a block be one. Such are named by themselves too.

    Returns:
        The places, and the names of the modules that were chosen.

    Raises:
        InputError: if there are no such places; it says why.
    """
    own = {s.module for s in table}
    named = [p for p in there if isinstance(part, str) and _is_named(p, part, own)]
    if named:
        return named, {p.module if p.module == part else p.block for p in named}
    chosen = {s.module for s in table.select(part)}
    found = [p for p in there if _is_in(p, chosen, there, own)]
    if not found:
        raise InputError(
            f"sites={part if isinstance(part, str) else sorted(chosen)!r} holds no residual block and no dense layer "
            f"with a place for a gate: {why_chosen(places, chosen, there)}. Places in this network: "
            f"{', '.join(list(dict.fromkeys(p.block for p in there))[:8])}."
        )
    return found, chosen


def _is_in(place: Place, chosen: Container[str], there: Sequence[Place], own: Container[str]) -> bool:
    """Whether a place is in chosen modules; of a block with one gate, behind one of them does not count."""
    around = any(name in chosen for name in _prefixes(place.block))  # a stage selects the blocks in it
    alone = place.block in own and sum(p.block == place.block for p in there) == 1
    return around or (place.module in chosen and not alone)


def _is_named(place: Place, text: str, own: Container[str]) -> bool:
    fits = place.block == text or fnmatchcase(place.block, text)  # a name with brackets in it fits itself
    return text == place.module or (fits and place.block not in own)


def _check_blocks(flow: Flow, wanted: Sequence[Place], *, every: bool) -> None:
    """Refuse blocks that never run, and those that have gates of ours already."""
    modules = dict(flow.module.named_modules())
    blocks = {type(modules[p.block]) for p in wanted if p.block != p.module}
    ran = {name for node in flow.nodes for name in flow.owners(node)}
    idle = [n for n, m in modules.items() if n and type(m) in blocks and n not in ran]
    if every and idle:
        raise InputError(f"these places never ran, or gave no map (N, C, H, W): {', '.join(idle)}; leave them out.")
    for place in wanted:
        for name in _prefixes(place.module):
            if isinstance(modules[name], Recalibrated):
                raise InputError(
                    f"{place.block} is already recalibrated: {describe(modules[name])}; give the plain network."
                )


def _prefixes(name: str) -> Iterator[str]:
    """The names of the modules that a module is in, its own among them."""
    parts = name.split(".")
    yield from (".".join(parts[:i]) for i in range(1, len(parts) + 1))


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


def _insert(module: nn.Module, place: Place, make: Make) -> Replaced:
    """Put a gate behind a module; in the place of a gate, behind nothing."""
    old = module.get_submodule(place.module)
    gate = make(place.channels)
    like = next(module.parameters())
    gate.to(device=like.device, dtype=like.dtype).train(old.training)
    layer = old if place.gate is None else nn.Identity().train(old.training)
    names = [n for n, m in module.named_modules(remove_duplicate=False) if m is old]
    new = Recalibrated(layer, gate, place.at)
    for name in names:  # a module with several names stays one
        put(module, name, new)
    return Replaced(place.module, describe(old), describe(gate))


def _check_ran(module: nn.Module, size: tuple[int, int, int], wanted: Sequence[Place]) -> None:
    """Count the runs of each gate in one forward pass."""
    ran: Counter[str] = Counter()
    handles = [
        module.get_submodule(f"{p.module}.gate").register_forward_hook(lambda *_, name=p.module: ran.update([name]))
        for p in wanted
    ]
    try:
        with evaluating(module):
            module(blank_picture(module, size))
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError, AttributeError) as error:
        raise InputError(
            f"the recalibrated network does not run on a picture of shape {size} (C, H, W): {error}. Choose "
            "another method or other options, or give input_size=(C, H, W)."
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    wrong = [f"{p.module} ({ran[p.module]} times)" for p in wanted if ran[p.module] != len(p.nodes)]
    if wrong:
        raise InputError(f"modules were inserted that do not run once for each branch: {', '.join(wrong)}.")
