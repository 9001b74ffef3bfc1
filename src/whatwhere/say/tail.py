"""What follows a site, as a network of its own: from the features there to the scores.

The network's own forward code runs, but the site gives back the features it is handed, and every call that is complete
before the site gives zeros of the right shape at no cost. Where all that follows rests on the site, those do not
matter; so features are computed once, and what follows is trained on them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from whatwhere.errors import InputError
from whatwhere.network import as_module
from whatwhere.say.checked import shaped
from whatwhere.site import evaluating

Key = tuple[str, int]


class Tail(nn.Module):
    """A network from the output of a site on.

    Args:
        module: the network; it is not copied, and training the tail trains it.
        site: name of the module whose output the tail begins with; it runs once.
        example: a picture (1, C, H, W) of the size that the features are of.

    Raises:
        InputError: for a module that is not there, gives no map or runs several times, or a picture that cannot be run.
    """

    def __init__(self, module: nn.Module, site: str, example: Tensor) -> None:
        super().__init__()
        module = as_module(module)
        shaped("example", example, "1", "C", "H", "W")
        self.module, self.site = module, site
        self._names = {m: n for n, m in module.named_modules() if n}
        self._picture = torch.zeros_like(example[:1])
        self._kept: dict[Key, Any] = {}
        self._inside: dict[Key, Counter[str]] = {}
        self.shape = self._recorded(example[:1])

    def forward(self, features: Tensor) -> Any:
        """(N, C, h, w) to what the network gives."""
        if features.shape[1:] != self.shape:
            raise InputError(
                f"features have shape {tuple(features.shape[1:])} (C, h, w), {self.site!r} gives {tuple(self.shape)} "
                "on the example; a tail is for pictures of one size."
            )
        calls: Counter[str] = Counter()

        def replay(name: str, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
            calls[name] += 1
            key = (name, calls[name])
            if name == self.site:
                calls.update(self._inside[key])
                return features.clone()  # what follows may work in place
            if key not in self._kept:
                return forward(*args, **kwargs)
            calls.update(self._inside[key])
            return _zeros(self._kept[key], features)

        with self._wrapped(replay):
            return self.module(self._picture.to(features.device).expand(len(features), -1, -1, -1))

    def _recorded(self, example: Tensor) -> torch.Size:
        """Run once: note every outermost call that is complete when the site's output is there."""
        calls: Counter[str] = Counter()
        shapes: list[torch.Size] = []

        def record(name: str, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
            calls[name] += 1
            key, before = (name, calls[name]), calls.copy()
            output = forward(*args, **kwargs)
            if not shapes:
                self._kept = {k: v for k, v in self._kept.items() if not _within(k, before, calls)}
                self._kept[key], self._inside[key] = output, calls - before
            if name == self.site:
                shapes.append(self._map_shape(output))
            return output

        with evaluating(self.module), self._wrapped(record):
            self.module(example)
        if len(shapes) != 1:
            raise InputError(f"site={self.site!r} runs {len(shapes)} times; a tail begins where a module runs once.")
        return shapes[0]

    def _map_shape(self, output: Any) -> torch.Size:
        if not isinstance(output, Tensor) or output.ndim != 4:
            raise InputError(f"site={self.site!r} does not give a map (N, C, h, w); a tail begins with one.")
        return output.shape[1:]

    @contextmanager
    def _wrapped(self, call: Callable[..., Any]) -> Iterator[None]:
        own = {m: m.__dict__.get("forward") for m in self._names}
        for m, name in self._names.items():
            m.forward = _calling(call, name, m.forward)
        try:
            yield
        finally:
            for m, forward in own.items():
                if forward is None:
                    m.__dict__.pop("forward", None)
                else:
                    m.forward = forward


def _calling(call: Callable[..., Any], name: str, forward: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: call(name, forward, args, kwargs)


def _within(key: Key, before: Counter[str], after: Counter[str]) -> bool:
    """Whether a call happened between two counts."""
    name, number = key
    return before[name] < number <= after[name]


def _zeros(value: Any, features: Tensor) -> Any:
    """What a call gave for one picture, as zeros for as many pictures as there are features."""
    if isinstance(value, Tensor):
        shape = (len(features), *value.shape[1:]) if value.ndim and len(value) == 1 else value.shape
        return value.new_zeros(shape, device=features.device)
    if isinstance(value, dict):
        return {k: _zeros(v, features) for k, v in value.items()}
    if not isinstance(value, tuple | list):
        return value
    parts = [_zeros(v, features) for v in value]
    return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
