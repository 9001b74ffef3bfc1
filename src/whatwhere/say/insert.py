"""Put a bottleneck into a segmentation network, and make sure that nothing flows past it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from whatwhere.errors import InputError, unknown
from whatwhere.network import N, as_module, check_finite, main_map, running
from whatwhere.say.layer import Bottleneck, overwriting
from whatwhere.site import blank_picture, evaluating, expected_input_size
from whatwhere.surgery import Replaced, as_given, copied, describe, put, record

OPTIONS = ("activation", "group")  # of `Bottleneck`


@dataclass(frozen=True)
class BottleneckReport:
    """What `bottleneck` did; the new module carries it as its attribute `surgery`.

    Attributes:
        inserted: where, what stood there, and what stands there now.
        channels: before and after.
    """

    inserted: Replaced
    channels: tuple[int, int]

    def __str__(self) -> str:
        """One line."""
        return f"{self.channels[0]} channels -> {self.channels[1]} concepts; {self.inserted}"


class Narrowed(nn.Module):
    """A module, called as it was, and the bottleneck behind it.

    Args:
        module: its output one map, whatever it is given.
        bottleneck: what the map goes through.
    """

    def __init__(self, module: nn.Module, bottleneck: Bottleneck) -> None:
        super().__init__()
        self.site, self.bottleneck = module, bottleneck

    def forward(self, *args: Any, **options: Any) -> Any:
        """The module's map, through the bottleneck."""
        return self.bottleneck(self.site(*args, **options))


def bottleneck(
    net: N,
    site: str,
    concepts: int | Sequence[str] | Bottleneck,
    *,
    input_size: tuple[int, int, int] | None = None,
    seed: int = 0,
    **options: Any,
) -> N:
    """A new network in which everything behind a site rests on concept maps alone.

    The layer comes untrained: `fit_heads` and `reconstruct` fit it, `ww.say.Compare` runs the whole protocol.

    >>> narrow = ww.say.bottleneck(segmenter, "backbone.layer4", ["vehicle", "person", "flat"])

    Args:
        net: the network; it is left alone, and its weights are kept.
        site: a module's name; the bottleneck goes behind its output, a map (N, C, h, w).
        concepts: how many, their names, or a `Bottleneck`.
        input_size: (C, H, W) of one picture to run on; None takes the network's own.
        seed: of the layer's first weights; the global random state is left alone.
        options: of `Bottleneck`: `activation`, and `group` for softmax.

    Returns:
        What was given: a module for a module, a `Network` for a `Network`. The module's attribute `surgery` is the
        `BottleneckReport`.

    Raises:
        InputError: for a module that is not there or gives no map, a `Bottleneck` of other channels, or where something
            flows past the bottleneck; for options that `Bottleneck` does not have, or a picture that cannot be run.
    """
    check_finite(as_module(net))
    module = copied(as_module(net))
    names = [n for n, _ in module.named_modules() if n]
    if site not in names:
        raise unknown("site", str(site), names)
    blank = blank_picture(module, _checked_size(input_size) if input_size else expected_input_size(net))
    example = torch.randn(2, *blank.shape[1:], generator=torch.Generator().manual_seed(seed)).to(blank)
    channels = _channels(module, site, example)
    layer = _layer(channels, concepts, seed, options)
    old = module.get_submodule(site)
    put(module, site, Narrowed(old, layer.to(device=blank.device, dtype=blank.dtype)))
    _check_rests_on(module, layer, site, example)
    before = f"{describe(old)}, {channels} channels"
    report = BottleneckReport(Replaced(site, before, describe(layer)), (channels, layer.encode.out_channels))
    module.__dict__["surgery"] = report
    record(module, net, "say.bottleneck", site=site, input_size=blank.shape[1:], seed=seed, **_settings(layer))
    return as_given(net, module, f"{getattr(net, 'name', '')}, bottleneck at {site}")


def _checked_size(size: tuple[int, int, int]) -> tuple[int, int, int]:
    if len(size) != 3 or not all(isinstance(s, int) and s > 0 for s in size):
        raise InputError(f"input_size={tuple(size)}: give (channels, height, width) of one picture, each above 0.")
    return size


def _layer(channels: int, concepts: int | Sequence[str] | Bottleneck, seed: int, options: dict[str, Any]) -> Bottleneck:
    if isinstance(concepts, Bottleneck):
        _check_fits(concepts, channels, options)
        return concepts
    if isinstance(concepts, str):
        raise InputError(f"concepts={concepts!r}: give a list of names, such as [{concepts!r}], or a number.")
    if not isinstance(concepts, int | Sequence):
        raise InputError(f"concepts={concepts!r}: give a number, a list of names, or a Bottleneck.")
    if wrong := [name for name in options if name not in OPTIONS]:
        raise unknown("options", wrong[0], OPTIONS)
    names = () if isinstance(concepts, int) else tuple(concepts)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return Bottleneck(channels, concepts if isinstance(concepts, int) else len(names), names=names, **options)


def _settings(layer: Bottleneck) -> dict[str, Any]:
    """The options that make such a layer; one of another class is an option itself."""
    if type(layer) is not Bottleneck:
        return {"concepts": layer}
    return {"concepts": layer.names, "activation": layer.activation, "group": layer.group}


def _check_fits(layer: Bottleneck, channels: int, options: dict[str, Any]) -> None:
    if options:
        raise InputError(f"{', '.join(options)}: the Bottleneck that was given is made already; give them to it.")
    if layer.encode.in_channels != channels:
        raise InputError(
            f"concepts: the Bottleneck is for {layer.encode.in_channels} channels, the site has {channels}."
        )


def _channels(module: nn.Module, site: str, example: Tensor) -> int:
    seen: list[Any] = []
    handle = module.get_submodule(site).register_forward_hook(lambda _m, _a, output: seen.append(output))
    try:
        with evaluating(module), running(module, example.shape[1:]):
            module(example[:1])
    except RuntimeError as error:
        raise InputError(
            f"input_size={tuple(example.shape[1:])}: the network cannot run on it ({str(error)[:120]}); give "
            "(channels, height, width) that it can."
        ) from error
    finally:
        handle.remove()
    if len(seen) != 1 or not isinstance(seen[0], Tensor) or seen[0].ndim != 4:
        what = f"runs {len(seen)} times" if len(seen) != 1 else "does not give a map (N, C, h, w)"
        raise InputError(f"site={site!r} {what}; a bottleneck needs a module that runs once and gives one map.")
    return int(seen[0].shape[1])


def _check_rests_on(module: nn.Module, layer: Bottleneck, site: str, example: Tensor) -> None:
    """Two pictures with the same concept maps must get the same scores."""
    with evaluating(module), overwriting(layer, lambda maps: maps[:1].expand_as(maps)):
        scores = main_map(module(example)).double()
    # Against what scores differ by: those of a network with small weights are alike anyway.
    if (scores[0] - scores[1]).abs().max() > 1e-4 * scores.std() + 1e-6 * scores.abs().max():
        raise InputError(
            f"site={site!r}: the scores do not rest on it alone; something flows past it (a skip connection). Choose a "
            "later site, where the paths have joined."
        )
