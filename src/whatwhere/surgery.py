"""Surgery: permanent edits on a copy of a network, counted, seen to run, and recorded, so that it can be done again."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from whatwhere.errors import InputError, unknown
from whatwhere.network import N, Network, as_module

Edit = Callable[[nn.Module], nn.Module]
M = TypeVar("M", bound=nn.Module)

# By the name in a record, where the function is: a network that was saved is operated on again when it is loaded. Names
# and not imports, since surgeons live upstairs; a closed list, since records are read from files.
SURGERIES: Mapping[str, str] = {
    "need.collapse": "whatwhere.need.gap_fc:collapse",
    "need.pointwise": "whatwhere.need.one_by_one:pointwise",
    "need.truncate": "whatwhere.need.truncated:truncate",
    "hold.with_padding": "whatwhere.hold.padding:with_padding",
    "use.recalibrate": "whatwhere.use.insert:recalibrate",
    "say.bottleneck": "whatwhere.say.insert:bottleneck",
    "modular": "whatwhere.graph.modular:modular",
}
REPORT, RECORDS = "surgery", "surgeries"  # attributes of a module: what the last one did; the records of all


@dataclass(frozen=True)
class Replaced:
    """One module that surgery put in the place of another."""

    name: str
    before: str
    after: str

    def __str__(self) -> str:
        """One line: where, what was there, what is there now."""
        return f"{self.name}: {self.before} -> {self.after}"


def edit(net: nn.Module | Network, edits: Mapping[str, Edit]) -> tuple[nn.Module, list[Replaced]]:
    """Replace modules, by name, on a copy.

    Args:
        net: the network; it is left alone.
        edits: for each dotted module name, a function from the old module (of the copy) to the new one. Inner
            modules are edited before those around them.

    Returns:
        The new module, and what was replaced; an edit that returns its module unchanged is not counted.

    Raises:
        InputError: if nothing was replaced.
    """
    module = copied(as_module(net))
    order = {name: i for i, (name, _) in enumerate(module.named_modules())}
    done = []
    for name in sorted(edits, key=lambda n: -n.count(".")):
        old = module.get_submodule(name)
        before = describe(old)  # the edit may work in place
        everywhere = names_of(module, old)
        new = edits[name](old)
        if new is not old:
            for place in everywhere:  # a module with several names stays one
                put(module, place, new)
        if new is not old or describe(new) != before:
            done.append(Replaced(name, before, describe(new)))
    if not done:
        raise InputError("surgery replaced nothing: none of the named modules needed a change.")
    return module, sorted(done, key=lambda r: order[r.name])


def copied(module: M) -> M:
    """A copy of a module that shares nothing with it, whatever it holds: pruned weights, results with gradients.

    Raises:
        InputError: if it holds something that cannot be copied, such as a lock or a generator.
    """
    # torch refuses to copy a tensor that was computed with gradients: a pruned weight, a feature map kept for later.
    memo = {id(t): t.detach().clone() for m in module.modules() for t in _computed_tensors(m.__dict__, set())}
    try:
        new = copy.deepcopy(module, memo)
    except (TypeError, RuntimeError, NotImplementedError) as error:
        raise InputError(
            f"net cannot be copied, and networks are changed on a copy: {error}. Remove what it holds beside its "
            "layers (copy.deepcopy(net) shows the place)."
        ) from error
    # A torch.fx.GraphModule copies itself without plain attributes.
    kept = {name: value for name, value in module.__dict__.items() if name in (REPORT, RECORDS)}
    new.__dict__.update({name: value for name, value in kept.items() if name not in new.__dict__})
    return new


def _computed_tensors(value: Any, seen: set[int]) -> Iterator[Tensor]:
    """Tensors in plain values and their containers that are no leaves."""
    if isinstance(value, Tensor):
        if not value.is_leaf:
            yield value
        return
    inner: Any = value
    if hasattr(value, "__dict__") and not isinstance(value, nn.Module | type):
        inner = list(vars(value).values())
    if not isinstance(inner, dict | list | tuple | set) or id(value) in seen:
        return
    seen.add(id(value))
    for part in inner.values() if isinstance(inner, dict) else inner:
        yield from _computed_tensors(part, seen)


def put(root: nn.Module, name: str, new: nn.Module) -> None:
    """Set the submodule of a dotted name."""
    parent, _, last = name.rpartition(".")
    setattr(root.get_submodule(parent), last, new)


def names_of(root: nn.Module, module: nn.Module) -> list[str]:
    """All names that a submodule has; a module may be registered in several places."""
    return [n for n, m in root.named_modules(remove_duplicate=False) if m is module]


def put_everywhere(root: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """Set a submodule under all names that another has.

    Args:
        root: the network.
        old: a part of it, or itself.
        new: what takes its place.

    Returns:
        The network; the new module if the old one was all of it.
    """
    if root is old:
        return new
    for name in names_of(root, old):
        put(root, name, new)
    return root


def count_parameters(module: nn.Module) -> int:
    """How many numbers a network learns."""
    return sum(p.numel() for p in module.parameters())


def describe(module: nn.Module) -> str:
    """A module on one short line, without its children."""
    children = list(module.children())
    inner = f"[{describe(children[-1])}]" if children and type(module).__module__.startswith("whatwhere") else ""
    return f"{type(module).__name__}({module.extra_repr()}){inner}"


def as_given(net: N, module: nn.Module, name: str) -> N:
    """Wrap the new module like the input: a `Network` stays one, with its preprocessing."""
    return replace(net, module=module, name=name) if isinstance(net, Network) else module


def modules_that_ran(module: nn.Module, example: torch.Tensor) -> set[str]:
    """The names of the modules that a forward pass on an example calls; evaluation mode is the caller's affair."""
    ran: set[str] = set()
    handles = [
        m.register_forward_hook(lambda _m, _a, _o, name=name: ran.add(name)) for name, m in module.named_modules()
    ]
    try:
        module(example)
    finally:
        for handle in handles:
            handle.remove()
    return ran


def record(new: nn.Module, before: nn.Module | Network, do: str, /, **options: Any) -> None:
    """Keep on a module which surgery made it, behind those that its network had before.

    Args:
        new: what surgery made; it gets a plain attribute `surgeries`, which copies keep.
        before: the network that was operated on.
        do: a name of `SURGERIES`.
        **options: all arguments of that function but the network, as far as needed to do the same to a network with
            other weights and without data. One that is no plain value is named in the record instead.
    """
    plain = {name: value for name, value in options.items() if _is_plain(value)}
    objects = {name: _described(value) for name, value in options.items() if name not in plain}
    made = {"do": do, "options": json.loads(json.dumps(plain)), **({"objects": objects} if objects else {})}
    new.__dict__[RECORDS] = (*surgeries(before), made)


def surgeries(net: nn.Module | Network) -> tuple[dict[str, Any], ...]:
    """The records of all surgeries that made a network, in their order.

    Each is {"do": name, "options": plain values}; options that are no plain values are in "objects", described.
    """
    found: tuple[dict[str, Any], ...] = as_module(net).__dict__.get(RECORDS, ())
    return found


def redone(net: N, records: Iterable[Mapping[str, Any]]) -> N:
    """A network on which recorded surgeries were done in their order.

    Args:
        net: the network before them; it is left alone.
        records: as by `surgeries`.

    Raises:
        InputError: for a surgery that this version does not know, or one that does not work on this network.
    """
    for each in records:
        do, options = each["do"], each["options"]
        if do not in SURGERIES:
            raise unknown("surgery", do, SURGERIES)
        where, _, function = SURGERIES[do].partition(":")
        try:
            net = getattr(import_module(where), function)(net, **{k: _as_tuples(v) for k, v in options.items()})
        except TypeError as error:
            raise InputError(f"surgery={do!r} cannot be done with {options}: {error}.") from error
    return net


def _is_plain(value: Any) -> bool:
    """Whether a value comes back from JSON as it was, but for lists in the place of tuples."""
    try:
        back = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return False
    return bool(_as_tuples(back) == _as_tuples(value))


def _as_tuples(value: Any) -> Any:
    """Lists as tuples, at every depth: JSON has lists only, and options are tuples."""
    if isinstance(value, dict):
        return {key: _as_tuples(inner) for key, inner in value.items()}
    return tuple(map(_as_tuples, value)) if isinstance(value, list | tuple) else value


def _described(value: Any) -> str:
    """What an object is, in words: a class or function by its name, others by their type."""
    name = getattr(value, "__qualname__", "")
    return f"{type(value).__name__} {name}" if name else f"an object of type {type(value).__name__}"
