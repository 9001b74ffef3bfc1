"""Networks of the user's own, by import path: `package.module:function`, which every process can load for itself."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from whatwhere.errors import InputError
from whatwhere.imported import attribute_at, module_at, short
from whatwhere.models.detectors import as_network
from whatwhere.models.seeding import seeded
from whatwhere.network import Network

HOW = "'package.module:function', a function without arguments that returns the network"


def network_at(name: str, *, classes: int | None = None, seed: int = 0) -> Network:
    """The network that a function makes, or that a module holds.

    Args:
        name: `package.module:function`. The current directory is searched first, as by `python -m`. The function is
            called without arguments; a module or `Network` in its place is taken as it is.
        classes: how many scores are needed at least.
        seed: of the weights that the function draws; the global random state is put back.

    Raises:
        InputError: if there is no such module or function, if it fails, returns no network, or one with fewer scores.
    """
    # What importing draws is drawn apart: it happens once in a process, and must not change what the function draws.
    found = attribute_at("model", name, seeded(seed, lambda: module_at("model", name)))
    made: Any = found if isinstance(found, nn.Module | Network) else seeded(seed, lambda: _called(name, found))
    if not isinstance(made, nn.Module | Network):
        raise InputError(
            f"model={name!r} returns a {type(made).__name__}; expected a torch.nn.Module or a whatwhere.Network."
        )
    net = made if isinstance(made, Network) else as_network(made, name)
    check_enough_scores(net, name, classes)
    return net


def _called(name: str, function: Any) -> Any:
    if not callable(function):
        raise InputError(f"model={name!r} is a {type(function).__name__}; give {HOW}.")
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise InputError(f"model={name!r} is called without arguments, and that fails: {error}; give {HOW}.") from error
    except ValueError:  # a signature that cannot be read
        pass
    try:
        return function()
    except Exception as error:  # a foreign function may raise anything
        raise InputError(f"model={name!r}: the call fails with {short(error)}.") from error


def check_enough_scores(net: Network, name: str, classes: int | None) -> None:
    """Refuse a network that gives fewer scores than there are classes, as far as shapes tell.

    Raises:
        InputError: naming both numbers.
    """
    scores = _scores(net) if classes else None
    if classes and scores is not None and scores < classes:
        raise InputError(
            f"model={name!r} gives {scores} scores, and {classes} classes are to be told apart; let it give as many."
        )


def _scores(net: Network) -> int | None:
    """How many scores a network gives, from shapes alone; None if that cannot be seen."""
    from whatwhere.site import expected_input_size
    from whatwhere.surgery import copied

    try:
        probe = copied(net.module).to("meta").eval()
        with torch.no_grad():
            output = probe(torch.empty(1, *expected_input_size(net), device="meta"))
    except Exception:  # not on meta tensors, or on pictures of that size
        return None
    return int(output.shape[1]) if isinstance(output, Tensor) and output.ndim in (2, 4) else None
