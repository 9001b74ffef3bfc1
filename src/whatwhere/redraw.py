"""Fresh weights: a copy of a network that has learned nothing, and a report of what was drawn how.

Every number that a network learns is first set to NaN in the copy. What a rule then fills was filled anew, whatever the
rule is; what is NaN at the end has no rule, and is refused by name. So no trained value can stay by oversight.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from whatwhere.dressings import computed, give, plain_twin, recompute
from whatwhere.errors import InputError
from whatwhere.network import N, Network, as_module
from whatwhere.surgery import as_given, copied

OWN = "their layers' own initialisation"
KEPT = "constants of the architecture, kept"
TABLES = ("relative_coords_table", "inv_freq", "attn_mask")
NORMALISING = ("mean", "std", "pixel_mean", "pixel_std", "image_mean", "image_std")
STATISTICS = {"running_mean": 0.0, "running_var": 1.0, "weight": 1.0, "bias": 0.0}  # of a fresh batch norm
SCALES, SHIFTS = ("weight", "gamma", "g", "scale", "alpha"), ("bias", "beta", "b", "shift")
SHOWN = 4  # names in a report


@dataclass(frozen=True)
class RedrawReport:
    """What `untrained` did; the new module carries it as its attribute `surgery`.

    Attributes:
        drawn: for each rule, the names of the tensors that it filled.
        seed: of the draws.
    """

    drawn: Mapping[str, tuple[str, ...]]
    seed: int = 0

    @property
    def unusual(self) -> str:
        """What was not filled by the layers' own initialisation, in a sentence; "" if there is nothing."""
        parts = [f"{_shown(names)}: {rule}" for rule, names in self.drawn.items() if rule != OWN]
        return f"Of the untrained networks, {'; '.join(parts)}." if parts else ""

    def __str__(self) -> str:
        """One line for each rule."""
        return "\n".join(f"{len(names)} tensors by {rule}: {_shown(names)}" for rule, names in self.drawn.items())


def _shown(names: tuple[str, ...]) -> str:
    return ", ".join(names[:SHOWN]) + (f", … ({len(names)} in all)" if len(names) > SHOWN else "")


def untrained(net: N, seed: int) -> N:
    """A copy of a network with fresh weights: what the architecture does without having learned anything.

    Every layer draws its tensors as its own `reset_parameters` does, also where its weights are pruned or are normed.
    That need not be how the network is initialised when it is made (kernels of a new ResNet of torchvision's are
    larger): what a trained network has more or less than this control is of training and of that together.
    What no such method fills is set by the first rule that fits, and the report says by which: statistics, scale and
    shift of a normalisation become those of a fresh one; tensors of timm's, transformers' and torchvision's networks
    those of a newly built network; any other parameter with two or more axes (a position embedding, say) keeps its
    values in a random order. Masks of pruning cut as much as before, elsewhere.

    >>> print(ww.untrained(net, 0).module.surgery)      # what was drawn how

    Args:
        net: the network; it is left alone.
        seed: of the draws; the global random state is put back.

    Raises:
        InputError: naming a tensor that no rule fits, since its trained values would stay: a vector or a single number
            of unknown meaning (a gain, a temperature), or a buffer that is saved with the weights.
    """
    given = as_module(net)
    module = copied(given)
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    module.cpu()  # an accelerator's generator would draw others
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        report = RedrawReport(_Redraw(module, given).run(), seed)
    module.__dict__["surgery"] = report
    name = net.name if isinstance(net, Network) else ""
    return as_given(net, module.to(device), f"{name}, untrained (seed {seed})")


def untrained_notes(net: nn.Module | Network) -> list[str]:
    """What a reader is told of untrained networks: nothing, if every layer draws its own tensors.

    Raises:
        InputError: as `untrained`, before anything is measured.
    """
    try:
        fresh: Any = untrained(as_module(net), 0)
    except InputError as error:
        raise InputError(f"{error} Or measure without this control: untrained=0.") from error
    return [fresh.surgery.unusual] if fresh.surgery.unusual else []


@dataclass
class _Redraw:
    module: nn.Module
    given: nn.Module
    rules: dict[str, list[str]] = field(default_factory=dict)
    built: dict[str, dict[str, Tensor]] = field(default_factory=dict)  # new networks, by architecture

    def run(self) -> dict[str, tuple[str, ...]]:
        """Fill everything."""
        _poison(t for _, t in _learned(self.module))
        for name, m in self.module.named_modules():
            _reset(m, self.given.get_submodule(name))
        learned = dict(_learned(self.module))  # some buffers are other objects now
        self._note(OWN, [n for n, t in learned.items() if not _poisoned(t)])
        for name, tensor in learned.items():
            if _poisoned(tensor):
                self._fill(name, tensor)
        for m in self.module.modules():
            recompute(m)
        return {rule: tuple(names) for rule, names in self.rules.items()}

    def _fill(self, name: str, tensor: Tensor) -> None:
        owner, _, own = name.rpartition(".")
        place = _Place(self.module.get_submodule(owner), own, name, self._trained(name), self)
        for rule in RULES:
            found = rule(place)
            if found is not None:
                value, said = found
                tensor.copy_(value)
                self._note(said, [name])
                return
        raise _refused(place)

    def _trained(self, name: str) -> Tensor:
        owner, _, own = name.rpartition(".")
        value: Tensor = getattr(self.given.get_submodule(owner), own)
        return value.detach().cpu()

    def _note(self, rule: str, names: list[str]) -> None:
        if names:
            self.rules.setdefault(rule, []).extend(names)


@dataclass(frozen=True)
class _Place:
    """A tensor without a value.

    Attributes:
        owner: the module that has it.
        own: its name there.
        name: its full name.
        trained: its value in the given network.
        redraw: what is under way.
    """

    owner: nn.Module
    own: str
    name: str
    trained: Tensor
    redraw: _Redraw

    @property
    def is_buffer(self) -> bool:
        """Whether it is no parameter."""
        return self.own in self.owner._buffers

    @property
    def axes(self) -> int:
        """Axes with more than one entry."""
        return sum(n > 1 for n in self.trained.shape)


def _learned(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters, and the buffers that are saved with them or are running statistics."""
    for path, m in module.named_modules():
        for own, tensor in _learned_by(m):
            yield f"{path}.{own}".lstrip("."), tensor


def _learned_by(m: nn.Module) -> Iterator[tuple[str, Tensor]]:
    parameters = dict(m.named_parameters(recurse=False))
    yield from ((own, p) for own, p in parameters.items() if p.is_floating_point() or p.is_complex())
    for own, b in m.named_buffers(recurse=False):
        saved = own not in m._non_persistent_buffers_set or own.startswith("running_")
        mask = own.removesuffix("_mask") + "_orig" in parameters  # of pruning
        if b.is_floating_point() and saved and not mask:
            yield own, b


def _poison(tensors: Iterable[Tensor]) -> None:
    for tensor in tensors:
        tensor.fill_(torch.nan)


def _poisoned(tensor: Tensor) -> bool:
    return bool(tensor.isnan().any())


def _reset(m: nn.Module, given: nn.Module) -> None:
    """Let a layer draw what it can; where its weights are computed, a plain twin of the given layer draws them."""
    names = computed(m)
    if not names:
        _draw(m)
        return
    plain = plain_twin(given, copied).cpu()
    drawn = dict(_learned_by(plain))
    _poison(drawn.values())
    _draw(plain)
    for name, tensor in drawn.items():
        if not _poisoned(tensor):
            with suppress(ValueError):  # another rule fills it
                give(m, name, tensor.detach())


def _draw(m: nn.Module) -> None:
    reset = getattr(m, "reset_parameters", None) or getattr(m, "_reset_parameters", None)
    if callable(reset):
        with suppress(Exception):  # one with arguments, or for tensors of other names: what it left is filled by a rule
            reset()


# ---- rules: a value and what a report says of it, or None


Found = tuple[Tensor, str] | None


def _of_a_norm(place: _Place) -> Found:
    """Of a batch norm that is frozen, or is written by hand."""
    if not all(hasattr(place.owner, n) for n in ("running_mean", "running_var")) or place.own not in STATISTICS:
        return None
    return torch.tensor(STATISTICS[place.own]), "as in a fresh batch norm (mean 0, variance 1, scale 1, shift 0)"


def _of_timm(place: _Place) -> Found:
    """As in a network that timm builds anew."""
    path = place.name.split(".")
    for depth in range(len(path) - 1, -1, -1):
        around = place.redraw.given.get_submodule(".".join(path[:depth]))
        config: Any = getattr(around, "pretrained_cfg", None) or getattr(around, "default_cfg", None)
        architecture = config.get("architecture") if config else None
        if architecture:
            fresh = _built(architecture, place.redraw.built).get("_".join(path[depth:]).replace(".", "_"))
            return None if fresh is None else (_like(fresh, place.trained), f"as in a new {architecture} of timm's")
    return None


def _of_transformers(place: _Place) -> Found:
    """As in a network that transformers builds anew of the same configuration."""
    path = place.name.split(".")
    for depth in range(len(path)):
        around: Any = place.redraw.given.get_submodule(".".join(path[:depth]))
        if type(around).__module__.startswith("transformers.models.") and hasattr(around, "config"):
            kind, built = type(around).__name__, place.redraw.built
            if kind not in built:
                built[kind] = type(around)(copy.deepcopy(around.config)).state_dict()
            fresh = built[kind].get(".".join(path[depth:]))
            return None if fresh is None else (_like(fresh, place.trained), f"as in a new {kind} of transformers'")
    return None


def _built(architecture: str, built: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of a new network, by their names with underscores: timm's wrappers for features rename."""
    if architecture not in built:
        import timm  # takes seconds to import

        state = timm.create_model(architecture).state_dict()
        built[architecture] = {name.replace(".", "_"): tensor for name, tensor in state.items()}
    return built[architecture]


def _like(fresh: Tensor, trained: Tensor) -> Tensor:
    """The values of a fresh tensor, in the shape that is needed."""
    if fresh.shape == trained.shape:
        return fresh.clone()
    drawn = torch.randint(fresh.numel(), (trained.numel(),))
    return fresh.flatten()[drawn].view(trained.shape)


def _normal(shape: torch.Size) -> Tensor:
    return nn.init.trunc_normal_(torch.empty(shape), std=0.02)


# By class and name, what torchvision's constructors put there.
TORCHVISION: dict[tuple[str, str], Callable[[torch.Size], Tensor]] = {
    ("CNBlock", "layer_scale"): lambda shape: torch.full(shape, 1e-6),
    ("Encoder", "pos_embedding"): lambda shape: torch.randn(shape) * 0.02,
    ("VisionTransformer", "class_token"): torch.zeros,
    ("ShiftedWindowAttention", "relative_position_bias_table"): _normal,
    ("RelativePositionalMultiHeadAttention", "relative_position_bias_table"): _normal,
    ("ShiftedWindowAttentionV2", "logit_scale"): lambda shape: torch.full(shape, 10.0).log(),
}


def _of_torchvision(place: _Place) -> Found:
    """As torchvision's constructors."""
    make = TORCHVISION.get((type(place.owner).__name__, place.own))
    if make is None or not type(place.owner).__module__.startswith("torchvision."):
        return None
    return make(place.trained.shape), "as torchvision's constructor"


def _of_a_layer_norm(place: _Place) -> Found:
    """Scale and shift of a normalisation that is written by hand, or of an affine layer."""
    if place.axes > 1 or place.own not in (*SCALES, *SHIFTS):
        return None
    named = re.search(r"norm|affine", type(place.owner).__name__, re.IGNORECASE)
    if not named or re.search("response", type(place.owner).__name__, re.IGNORECASE):
        return None
    return torch.tensor(float(place.own in SCALES)), "as in a fresh normalisation (scale 1, shift 0)"


def _constant(place: _Place) -> Found:
    """Buffers that are known not to be learned: what pictures are normalised with, tables of coordinates."""
    known = place.own in TABLES or (place.own in NORMALISING and place.trained.numel() <= 4)
    return (place.trained, KEPT) if place.is_buffer and known else None


def _in_random_order(place: _Place) -> Found:
    """Weights of unknown meaning: their distribution stays, what was learned goes."""
    flat = place.trained.flatten()
    if place.is_buffer or place.axes < 2 or flat.is_complex():
        return None
    if flat.mean().abs() > 3 * flat.std():  # nearly constant: in any order they are what was learned
        return None
    return flat[torch.randperm(flat.numel())].view(place.trained.shape), "their trained values in a random order"


RULES = (_of_a_norm, _of_timm, _of_transformers, _of_torchvision, _of_a_layer_norm, _constant, _in_random_order)


def _refused(place: _Place) -> InputError:
    kind = _own_kind(place)
    fix = f"give {kind} a method reset_parameters that sets it as a new {kind} has it"
    if place.is_buffer:
        fix += f", or, if it is a constant, register it with persistent=False ({place.own})"
    what = "buffer" if place.is_buffer else "parameter"
    return InputError(
        f"untrained: the {what} {place.name} {tuple(place.trained.shape)} would keep what was learned: {kind} has no "
        f"reset_parameters that draws it, and no rule is known for it. To draw it, {fix}."
    )


def _own_kind(place: _Place) -> str:
    """The class that can be given a method: of the innermost module around the tensor that is not torch's."""
    path = place.name.split(".")[:-1]
    around = [place.redraw.given.get_submodule(".".join(path[:depth])) for depth in range(len(path), -1, -1)]
    own = [type(m).__name__ for m in around if not type(m).__module__.startswith("torch.")]
    return own[0] if own else type(place.owner).__name__
