"""Insert recalibration into a network: at the end of residual branches, on the new maps of dense layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from whatwhere.errors import InputError, unknown
from whatwhere.network import N, as_module
from whatwhere.site import Selection, blank_picture, evaluating, expected_input_size
from whatwhere.site_table import list_sites
from whatwhere.surgery import Replaced, as_given, copied, count_parameters, describe, names_of, put, record
from whatwhere.use.between import put_between
from whatwhere.use.chosen import chosen_places
from whatwhere.use.closed import check_closed
from whatwhere.use.ms_sar import MSSAR, SE
from whatwhere.use.places import Place, Places
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
        fixed: those of them that cannot be replaced, and why.
        left_out: of what was chosen, residual branches that have no place for a gate, by block, and why.
    """

    method: str
    inserted: tuple[Replaced, ...]
    parameters: tuple[int, int]
    flops: tuple[int, int]
    kept: tuple[str, ...] = ()
    fixed: Mapping[str, str] = field(default_factory=dict)
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
            can = "" if len(self.fixed) == len(self.kept) else "; replace=True puts these in their places"
            but = " but for those below" if can and self.fixed else ""
            yield (
                f"The network keeps {len(self.kept)} gates of its own ({', '.join(self.kept[:3])}"
                f"{', …' if len(self.kept) > 3 else ''}){can}{but}."
            )
        for name, why in self.fixed.items():
            yield f"Cannot be replaced: {name}: {why}."
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
            inside of branches and elsewhere; branches that have one get no other. A gate that is a product between
            modules is replaced in the graph of the forward that it is in. False leaves those gates alone.
        input_size: (C, H, W) of one picture on which the new network must run; None takes the network's own.
        seed: of the new modules' weights; the global random state is restored.
        **options: settings of the method, such as `ratio` and `scales`.

    Returns:
        A module for a module, a `Network` for a `Network`. The module's attribute `surgery` is the
        `RecalibrationReport`.

    Raises:
        InputError: for an unknown method, options that it does not take, a network or selection without residual blocks
            and dense layers (it says why they have no place), gates that cannot be replaced, or inserted modules that
            did not run.
    """
    make, name = maker(method, options), _name(method)
    size = input_size or expected_input_size(net)
    before = list_sites(net, input_size=size)
    places = Places(before.dataflow.flow, before)
    wanted, left_out = chosen_places(places, before, sites, replace)
    module = copied(as_module(net))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        made = {place: _made(module, place, make) for place in wanted}
    inserted = [_described(module, place, new) for place, new in made.items()]
    module = put_between(module, places.flow, {p: new for p, new in made.items() if p.is_between})
    for place in reversed([p for p in wanted if not p.is_between]):  # parts before what they are in
        _insert(module, place, made[place])
    _check_ran(module, size, wanted)
    check_closed(places, module, [p for p in wanted if p.gate is None])
    report = RecalibrationReport(
        name,
        tuple(inserted),
        (count_parameters(as_module(net)), count_parameters(module)),
        (before.total_flops, list_sites(module, input_size=size).total_flops),
        tuple(places.name_of(g) for g in places.gates if g not in [p.gate for p in wanted]),
        {places.name_of(g): why for g, why in places.fixed_gates.items()},
        left_out,
    )
    module.__dict__["surgery"] = report
    kept = {"sites": None if sites is None else [p.module for p in wanted], **({"replace": True} if replace else {})}
    record(module, net, "use.recalibrate", method=method, **kept, input_size=size, seed=seed, **options)
    return as_given(net, module, f"{getattr(net, 'name', '')} + {name}")


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


def _made(module: nn.Module, place: Place, make: Make) -> Recalibrated:
    """A gate behind nothing yet."""
    gate, like = make(place.channels), next(module.parameters())
    gate.to(device=like.device, dtype=like.dtype)
    new = Recalibrated(nn.Identity(), gate, place.at)
    return new.train(module.get_submodule(place.owner if place.is_between else place.module).training)


def _described(module: nn.Module, place: Place, new: Recalibrated) -> Replaced:
    old = "a product between modules" if place.is_between else describe(module.get_submodule(place.module))
    return Replaced(place.module, old, describe(new.get_submodule("gate")))


def _insert(module: nn.Module, place: Place, new: Recalibrated) -> None:
    """Put a gate behind a module; in the place of a gate, behind nothing."""
    old = module.get_submodule(place.module)
    names = names_of(module, old)
    if place.gate is None:
        new.layer = old
    for name in names:  # a module with several names stays one
        put(module, name, new)


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
