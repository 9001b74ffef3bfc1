"""Scores of the user's own: a function of outputs and targets, or a torchmetrics metric."""

from __future__ import annotations

import copy
import hashlib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import update_wrapper
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_leaves

from whatwhere.errors import InputError
from whatwhere.imported import attribute_at, module_at, short
from whatwhere.scores.against_intact import main_tensor
from whatwhere.scores.ragged import apart, joined
from whatwhere.scores.score import Evidence, Score, of_pictures
from whatwhere.training.objectives import at_size

SUMS, LISTS = "dim_zero_sum", "dim_zero_cat"  # how torchmetrics says that states of two processes are brought together
HOW = (
    "a function of (outputs, targets), or (outputs, targets, intact outputs), that returns a number for each picture "
    "or one for all, or a torchmetrics metric"
)


class Here:
    """A function that was given as an object: of this process alone."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call
        update_wrapper(self, call)

    def __call__(self, *args: Any) -> Any:
        """Call it."""
        return self.call(*args)

    def __reduce__(self) -> NoReturn:
        raise InputError(
            "score was given as an object, and cells in other processes load what they need by name: give score as "
            "'package.module:name', or workers=0."
        )


@dataclass(frozen=True)
class Function(Score):
    """A function of the user's: of each picture, or of all of them.

    Attributes:
        call: the function.
        source: a digest of its code: a folder that another one wrote does not go on.
        whole: what the pictures come with are whole numbers, such as class labels.
    """

    call: Callable[..., Any] = len
    source: str = ""
    whole: bool = True

    @property
    def identity(self) -> str:
        """Its name and its code."""
        return f"{self.name} {self.source}"

    def evidence(self, outputs: Any, targets: Any, intact: Any) -> list[Evidence]:
        """What it returns for each picture; of a set's score what it will be called with.

        Raises:
            InputError: if it fails, or does not return a number for each picture.
        """
        if self.per_picture:
            return of_pictures(torch.as_tensor(self._called(outputs, targets, intact)), f"score={self.name!r}")
        given = (outputs, targets, intact) if self.of_intact else (outputs, targets)
        tensors = [_tensor(t).cpu().numpy() for t in given]
        return [joined([t[i] for t in tensors]) for i in range(len(tensors[0]))]

    def value(self, evidence: Sequence[Evidence]) -> float:
        """The mean, or what it returns for all pictures at once."""
        if self.per_picture:
            return super().value(evidence)
        parts = [apart(e) for e in evidence]
        outputs, targets, *intact = (torch.from_numpy(np.stack(p)) for p in zip(*parts, strict=True))
        targets = targets.long() if self.whole else targets.float()
        return float(self._called(outputs.float(), targets, *(t.float() for t in intact)))

    def _called(self, outputs: Any, targets: Any, intact: Any = None) -> Any:
        try:
            return self.call(outputs, targets, intact) if self.of_intact else self.call(outputs, targets)
        except Exception as error:  # a foreign function may raise anything
            raise InputError(f"score={self.name!r}: the call fails with {short(error)}.") from error


@dataclass(frozen=True)
class Metric(Score):
    """A torchmetrics metric over the set.

    Evidence of a picture is the metric's state after that picture alone; states are added up, or put one after the
    other, as torchmetrics does with those of several processes.

    Attributes:
        metric: it; never changed.
        source: a digest of its settings.
        types: of its states, by name.
        logits: the network gives scores of classes that are no probabilities: the metric gets their softmax. It would
            take it itself, of every batch in which one is outside [0, 1], and not of one where chance has none.
    """

    per_picture: bool = False
    metric: Any = None
    source: str = ""
    types: tuple[torch.dtype, ...] = ()
    logits: bool = False

    @property
    def identity(self) -> str:
        """Its name and its settings."""
        return f"{self.name} {self.source}"

    def evidence(self, outputs: Any, targets: Any, intact: Any) -> list[Evidence]:
        """Its state after each picture.

        Raises:
            InputError: if it does not take such outputs and targets.
        """
        predictions, wanted = _tensor(outputs).cpu().float(), _tensor(targets).cpu()
        alone = [(predictions[i : i + 1], wanted[i : i + 1]) for i in range(len(predictions))]
        return [joined([*map(_array, self.after(*pair))]) for pair in alone]

    def after(self, predictions: Any, targets: Any) -> list[Any]:
        """Its states after a batch; maps of scores are brought to the size of label maps.

        Raises:
            InputError: if it does not take them.
        """
        fresh, given, wanted = self._fresh(), _tensor(predictions).cpu().float(), _tensor(targets).cpu()
        if given.ndim == 4 and wanted.ndim == 3:
            given = at_size(given, wanted)
        given = given.softmax(1) if self.logits else given
        try:
            fresh.update(given, wanted)
        except Exception as error:  # a foreign metric may raise anything
            raise InputError(f"score={self.name!r}: its update fails with {short(error)}.") from error
        return [getattr(fresh, name) for name in self._names]

    def value(self, evidence: Sequence[Evidence]) -> float:
        """What it computes from the states of all pictures; NaN where it cannot."""
        parts = zip(*(apart(e) for e in evidence), strict=True)
        return self._computed([self._brought_together(n, part) for n, part in zip(self._names, parts, strict=True)])

    def resampled(self, evidence: Sequence[Evidence], times: NDArray[np.integer]) -> NDArray[np.float64]:
        """Of sums of states where all of them are sums."""
        if any(self._reduction(name) != SUMS for name in self._names):
            return super().resampled(evidence, times)
        parts = [np.stack(p) for p in zip(*(apart(e) for e in evidence), strict=True)]
        sums = [np.tensordot(times.astype(np.float64), p, axes=1) for p in parts]
        one = self._fresh()
        each = [[torch.from_numpy(np.asarray(s[b])) for s in sums] for b in range(len(times))]
        return np.array([self._computed(states, one) for states in each])

    @property
    def _names(self) -> list[str]:
        return sorted(self.metric.metric_state)

    def _reduction(self, name: str) -> str:
        return getattr(self.metric._reductions[name], "__name__", "")

    def _fresh(self) -> Any:
        fresh = copy.deepcopy(self.metric)
        fresh.reset()
        return fresh

    def _brought_together(self, name: str, parts: Sequence[NDArray[np.float64]]) -> Any:
        if self._reduction(name) == SUMS:
            return torch.from_numpy(np.sum(parts, axis=0))
        return [torch.from_numpy(np.concatenate([p for p in parts if p.size]))] if any(p.size for p in parts) else []

    def _computed(self, states: Sequence[Any], one: Any = None) -> float:
        fresh = one or self._fresh()
        fresh.reset()
        for name, state, kind in zip(self._names, states, self.types, strict=True):
            setattr(fresh, name, [s.to(kind) for s in state] if isinstance(state, list) else state.to(kind))
        fresh._update_count = 1  # else it warns that nothing was seen
        return float(fresh.compute())


def function_score(call: Callable[..., Any], name: str, outputs: Any, targets: Any) -> Function:
    """A function as a score. Attributes of it are taken: label, unit, higher_is_better, low, high.

    Args:
        call: of (outputs, targets), or of (outputs, targets, intact outputs).
        name: of the score.
        outputs: of the intact network for a few pictures: whether it returns a number for each is seen on these.
        targets: of these.

    Raises:
        InputError: if it takes something else, fails, or does not return numbers.
    """
    try:
        takes = len(inspect.signature(call).parameters)
    except (TypeError, ValueError):
        takes = 2
    if takes not in (2, 3):
        raise InputError(f"score={name!r} takes {takes} arguments; give {HOW}.")
    said: dict[str, Any] = {
        k: getattr(call, k) for k in ("label", "unit", "higher_is_better", "low", "high") if hasattr(call, k)
    }
    about = {"name": name, "label": name, "of_intact": takes == 3, "call": call, "source": _digest(call), **said}
    about["whole"] = not (isinstance(targets, Tensor) and targets.is_floating_point())
    found = torch.as_tensor(Function(**about)._called(outputs, targets, outputs))
    if found.shape not in ((), (_count(outputs),)):
        raise InputError(f"score={name!r} returns values of shape {tuple(found.shape)}; give {HOW}.")
    return Function(**about, per_picture=found.ndim == 1)


def metric_score(metric: Any, name: str, outputs: Any, targets: Any) -> Metric:
    """A torchmetrics metric as a score over the set.

    Args:
        metric: it; a copy is kept.
        name: of the score.
        outputs: of the intact network for a few pictures: what the metric keeps is seen on these.
        targets: of these.

    Raises:
        InputError: for one that does not say which way is better, or whose states cannot be brought together.
    """
    if metric.higher_is_better is None:
        raise InputError(
            f"score={name!r}: this metric does not say whether higher is better; set its attribute higher_is_better "
            "to True or False."
        )
    made = Metric(
        name,
        name.rpartition(":")[2],
        higher_is_better=bool(metric.higher_is_better),
        low=_bound(metric.plot_lower_bound, -math.inf),
        high=_bound(metric.plot_upper_bound, math.inf),
        metric=copy.deepcopy(metric),
        source=_settings(metric),
    )
    strange = [state for state in made._names if made._reduction(state) not in (SUMS, LISTS)]
    if strange or not made._names:
        raise InputError(
            f"score={name!r}: its state {', '.join(strange) or '(none)'} is neither a sum over pictures nor a list, so "
            "that pictures cannot be drawn again; give a function of all pictures instead."
        )
    predicted = _tensor(outputs)
    logits = predicted.ndim == _tensor(targets).ndim + 1 and not bool(((predicted >= 0) & (predicted <= 1)).all())
    made = replace(made, logits=logits)
    return replace(made, types=tuple(map(_type, made.after(outputs, targets))))


def is_metric(thing: Any) -> bool:
    """Whether something is a torchmetrics metric, or a class of one; torchmetrics itself need not be there."""
    kind = thing if isinstance(thing, type) else type(thing)
    return any(k.__module__.startswith("torchmetrics.") and k.__name__ == "Metric" for k in kind.__mro__)


def object_at(path: str, classes: int) -> Any:
    """What `package.module:name` names; a metric's class is made, of so many classes if it takes `num_classes`.

    Raises:
        InputError: if there is no such thing, or the metric cannot be made.
    """
    found = attribute_at("score", path, module_at("score", path))
    if not isinstance(found, type):
        return found
    counted = "num_classes" in inspect.signature(found).parameters
    try:
        return found(**({"num_classes": classes} if counted else {}))
    except Exception as error:  # a foreign class may raise anything
        raise InputError(
            f"score={path!r}: making it fails with {short(error)}; name one that is made already."
        ) from error


def _bound(value: float | None, none: float) -> float:
    return none if value is None else float(value)


def _settings(metric: Any) -> str:
    """A digest of a metric's settings, its class among them."""
    plain = {k: repr(v) for k, v in vars(metric).items() if isinstance(v, str | int | float | bool | tuple | None)}
    own = {k: v for k, v in plain.items() if not k.startswith("_")}
    return _hashed(f"{type(metric).__module__}.{type(metric).__qualname__} {sorted(own.items())}")


def _digest(call: Callable[..., Any]) -> str:
    try:
        return _hashed(inspect.getsource(call))
    except (OSError, TypeError):  # typed at a prompt, or no function
        return _hashed(repr(getattr(call, "__qualname__", type(call).__qualname__)))


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _count(outputs: Any) -> int:
    return len(next(t for t in tree_leaves(outputs) if isinstance(t, Tensor)))


def _tensor(value: Any) -> Tensor:
    return main_tensor(value) if isinstance(value, Tensor | Mapping | tuple | list) else torch.as_tensor(value)


def _array(state: Any) -> NDArray[np.float64]:
    """A state as numbers: a tensor, or a list of tensors, one after the other."""
    if isinstance(state, list):
        return np.concatenate([_array(torch.atleast_1d(s)) for s in state]) if state else np.zeros(0)
    return np.asarray(state.detach().cpu().numpy(), dtype=np.float64)


def _type(state: Any) -> torch.dtype:
    first = next(iter(state), torch.zeros(0)) if isinstance(state, list) else state
    kind: torch.dtype = first.dtype
    return kind
