"""Shared-prefix execution: run a network once, and again only from chosen cuts on.

The network's own forward code runs each time, but every module call that was complete at the cut gives back what it
gave the first time. So the prefix costs no computation, any Python forward works, and what follows the cut is exactly
what a full forward pass would have computed there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from whatwhere.errors import InputError, no_tensor
from whatwhere.interventions import count_skipped
from whatwhere.network import Network, as_module
from whatwhere.site import Site

Key = tuple[str, int]
Resume = Callable[[], Any]  # the network's output, in whatever form it gives it
AtCut = Callable[[Resume], None]


class SharedPrefix:
    """Run a network on a batch, stopping at cuts to try what follows under other conditions.

    >>> with SharedPrefix(net) as run:
    ...     def at_cut(resume):
    ...         with ww.need.shuffle(net, "layer4.0:"):
    ...             scores.append(resume())              # costs layer4 only
    ...     intact = run(x, {site: at_cut})

    In the block each module's `forward` is wrapped on the instance; afterwards the network is what it was. Use it in
    evaluation mode, without gradients.

    Args:
        net: the network. Modules that scripting or compilation made opaque are refused.
    """

    def __init__(self, net: nn.Module | Network) -> None:
        self.module = as_module(net)
        self._names = {m: n for n, m in self.module.named_modules()}
        self._own: dict[nn.Module, Any] = {}
        self._state: _State = _Plain()
        self._recording: _Recording | None = None
        self._entered = False
        self._copied: set[Key] = set()
        self._checked: set[tuple[str, ...]] = set()

    def __enter__(self) -> SharedPrefix:
        """Wrap every module's forward."""
        if self._entered:
            raise InputError("this SharedPrefix is active already; make a new one for a nested block.")
        self._entered = True
        for m in self._names:
            if isinstance(m, torch.jit.ScriptModule):
                self.__exit__()
                raise InputError(f"{self._names[m] or 'the network'} is scripted; pass the network before torch.jit.")
            if m is not self.module:
                self._own[m] = m.__dict__.get("forward")
                m.forward = self._wrapped(m, m.forward)
        return self

    def __exit__(self, *_: object) -> None:
        """Put every module's own forward back."""
        for m, own in self._own.items():
            if own is None:
                m.__dict__.pop("forward", None)
            else:
                m.forward = own
        self._own.clear()
        self._entered = False

    def __call__(self, x: Tensor, cuts: Mapping[Site, AtCut]) -> Any:
        """Run the network once; at each cut, call what is given there with a function that resumes from it.

        Args:
            x: a batch of inputs.
            cuts: for each site, a function that gets `resume`; each `resume()` runs the network from the site's call
                on, under whatever is installed at the time, and returns the network's output.

        Returns:
            The output of the plain forward pass: a tensor, or what else holds tensors.

        Raises:
            InputError: if it holds none, or the network gives another output when it runs again.
        """
        if not self._entered:
            raise InputError("use SharedPrefix in a with block: `with SharedPrefix(net) as run: run(x, cuts)`.")
        if torch.is_inference_mode_enabled():
            raise InputError("inference_mode hides in-place edits; run under torch.no_grad() instead.")
        self._check(x, cuts)
        return self._record(x, cuts)

    def _record(self, x: Tensor, cuts: Mapping[Site, AtCut]) -> Any:
        at = {(s.module, s.call): f for s, f in cuts.items()}
        self._state = self._recording = recording = _Recording(self.module, at, x)
        try:
            output = self.module(x)
        finally:
            self._state, self._recording = _Plain(), None
        missed = [s.name for s in cuts if recording.calls[s.module] < s.call]
        if not _tensors(output):
            raise no_tensor(output)
        if missed:
            raise InputError(f"the network ran, but these cuts were never reached: {', '.join(missed)}.")
        return output

    def _check(self, x: Tensor, cuts: Mapping[Site, AtCut]) -> None:
        """Once for each set of cuts, on two pictures: find in-place edits of kept outputs, compare with a plain run."""
        names = tuple(s.name for s in cuts)
        if names in self._checked:
            return
        few = x[:2].clone()
        for _ in range(len(self._names) + 1):
            changed = self._edited_in_place(few, cuts)
            if not changed:
                self._checked.add(names)
                return
            self._copied |= changed
        raise InputError(
            "the network edits its own intermediate results in place, and shared-prefix execution cannot follow."
        )

    def _edited_in_place(self, x: Tensor, cuts: Mapping[Site, AtCut]) -> set[Key]:
        outputs: list[Any] = []
        edited: set[Key] = set()

        def kept_now() -> dict[Key, _Kept]:
            return self._recording.kept if self._recording else {}

        def at_cut(resume: Resume) -> None:
            outputs.extend((resume(), resume()))
            edited.update(key for key, kept in kept_now().items() if kept.version() != kept.recorded)

        plain = self._record(x, dict.fromkeys(cuts, at_cut))
        if not edited and not all(_equal(plain, y) for y in outputs):
            raise InputError(
                "the network gives another output when it is run again on the same input, so paired draws mean "
                "nothing; switch its randomness off in evaluation mode."
            )
        return edited

    def _wrapped(self, m: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        name = self._names[m]

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._state.call(self, m, name, forward, args, kwargs)

        return call

    def _resume(self, recording: _Recording) -> Any:
        self._state, before = _Replay(recording), self._state
        try:
            return self.module(recording.x)
        finally:
            self._state = before


class _Plain:
    """No run of ours is under way: every call just runs."""

    def call(
        self, owner: SharedPrefix, m: nn.Module, name: str, forward: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        return forward(*args, **kwargs)


class _Kept:
    """An output that was given, and may be given again."""

    def __init__(self, value: Any, copied: bool, inside: dict[str, int]) -> None:
        self.original = value
        self.value = _clone(value) if copied else value
        self.copied, self.inside = copied, inside
        self.recorded = self.version()

    def version(self) -> int:
        """Counts the in-place edits of the value so far."""
        return self.value._version if isinstance(self.value, Tensor) else 0

    def drop(self) -> None:
        """Free the memory of an output that is not needed any more."""
        self.value = self.original = None
        self.recorded = 0

    def again(self) -> Any:
        return _clone(self.value) if self.copied else self.value


def _tensors(output: Any) -> list[Tensor]:
    return [t for t in tree_leaves(output) if isinstance(t, Tensor)]


def _equal(output: Any, other: Any) -> bool:
    """Whether two outputs hold the same values; one that is no number is equal to another."""
    pairs = _tensors(output), _tensors(other)
    return len(pairs[0]) == len(pairs[1]) and all(
        torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(*pairs, strict=True)
    )


def _clone(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


class _Recording:
    """The first run: keep what the outermost complete calls gave."""

    def __init__(self, root: nn.Module, cuts: Mapping[Key, AtCut], x: Tensor) -> None:
        self.cuts, self.x = cuts, x
        self.kept: dict[Key, _Kept] = {}
        self.calls: Counter[str] = Counter()
        self.open: list[tuple[nn.Module, set[Key]]] = [(root, set())]

    def call(
        self, owner: SharedPrefix, m: nn.Module, name: str, forward: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        self.calls[name] += 1
        key = (name, self.calls[name])
        if key in self.cuts:
            owner._state = _Plain()  # what is given at the cut may run the network for itself, to list its sites, say
            self.cuts[key](lambda: owner._resume(self))
            owner._state = self
        before = dict(self.calls)
        self.open.append((m, set()))
        value = forward(*args, **kwargs)
        _, inner = self.open.pop()
        self._forget(inner)
        self._note_edits((*args, *kwargs.values()))
        inside = {n: c for n, c in self.calls.items() if c != before.get(n, 0)}
        self._keep(key, _Kept(value, key in owner._copied, inside))
        return value

    def _keep(self, key: Key, kept: _Kept) -> None:
        parent, siblings = self.open[-1]
        # Of a plain Sequential only the last complete child is asked for its output.
        if type(parent).forward is nn.Sequential.forward:
            for earlier in siblings:
                self.kept[earlier].drop()
        siblings.add(key)
        self.kept[key] = kept

    def _forget(self, keys: set[Key]) -> None:
        for key in keys:
            del self.kept[key]

    def _note_edits(self, args: tuple[Any, ...]) -> None:
        """An in-place edit by a call that is complete is not repeated, so it is part of the kept value."""
        for kept in self.kept.values():
            if any(kept.original is a for a in args) and not kept.copied:
                kept.recorded = kept.version()


class _Replay:
    """A later run: calls complete at the cut give back what they gave; all others run."""

    def __init__(self, recording: _Recording) -> None:
        self.kept = recording.kept
        self.calls: Counter[str] = Counter()

    def call(
        self, owner: SharedPrefix, m: nn.Module, name: str, forward: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        self.calls[name] += 1
        kept = self.kept.get((name, self.calls[name]))
        if kept is None:
            return forward(*args, **kwargs)
        dict.update(self.calls, kept.inside)  # totals, not increments
        if kept.inside:
            count_skipped(owner.module, kept.inside)
        return kept.again()


_State = _Plain | _Recording | _Replay
