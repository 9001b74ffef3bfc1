"""Interventions: what happens, for a while, to the maps that enter a site.

An intervention is a `with` block. When it ends, also by an exception, the network is what it was: hooks,
weights, buffers and training flags; the global random state is never touched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from whatwhere.errors import InputError
from whatwhere.layers import map_in, with_map
from whatwhere.maps import as_maps, from_maps, with_prefix
from whatwhere.site import Site, tracing

Change = Callable[[Tensor], Tensor]
When = Literal["always", "train", "eval"]

OUTPUT = " (output)"  # behind a site's name: what its call gives

_installed: list[Intervention] = []


def count_skipped(module: nn.Module, calls: Mapping[str, int]) -> None:
    """Tell the interventions on a network how often its modules would have run by now, had no call been skipped."""
    for intervention in _installed:
        if intervention.module is module:
            ended = {name + OUTPUT: count for name, count in calls.items()}
            dict.update(intervention._calls, {**calls, **ended})  # totals, not increments


class Intervention:
    """Change the maps that enter some sites, until closed.

    Args:
        module: the network.
        inputs: for each site, what to do with the maps (N, C, H, W) that enter it.
        shortcuts: for each block that something goes round in, what to do with that. It is changed once, where it
            leaves the block's input; a projection works on the changed maps, and its output stays as it is.
        outputs: for each site, what to do with the maps that its call gives.
        branches: for each such block the modules in it that get the input as it was, by name; if not given, `conv1`.
        prefixes: for some of the sites in `inputs`, what to do with the prefix tokens (N, K, C) there, which are kept
            elsewhere.
        when: act in both modes, in training only, or in evaluation only.
        padding: "circular" lets the changed convolutions wrap around instead of adding zeros, which mark borders.

    Attributes:
        ran: how often each site's change was applied.
    """

    def __init__(
        self,
        module: nn.Module,
        inputs: Mapping[Site, Change],
        shortcuts: Mapping[Site, Change] | None = None,
        *,
        outputs: Mapping[Site, Change] | None = None,
        branches: Mapping[Site, Sequence[str]] | None = None,
        prefixes: Mapping[Site, Change] | None = None,
        when: When = "always",
        padding: Literal["keep", "circular"] = "keep",
    ) -> None:
        if when not in ("always", "train", "eval"):
            raise InputError(f"when={when!r}: choose 'always', 'train' or 'eval'.")
        if padding not in ("keep", "circular"):
            raise InputError(f"padding={padding!r}: choose 'keep' or 'circular'.")
        self.module, self.inputs, self.shortcuts = module, dict(inputs), dict(shortcuts or {})
        self.outputs, self.prefixes = dict(outputs or {}), dict(prefixes or {})
        self.branches = {s: (branches or {}).get(s, (f"{s.module}.conv1",)) for s in self.shortcuts}
        self.when, self.padding = when, padding
        self.ran: Counter[str] = Counter()
        self._forwards = 0
        self._begun = False
        self._calls: Counter[str] = Counter()
        self._undo: list[Callable[[], None]] = []

    @property
    def matched(self) -> tuple[str, ...]:
        """The names of the sites acted on; a block's stands for its shortcut, one with "(output)" for what it gives."""
        return (*(s.name for s in (*self.inputs, *self.shortcuts)), *(s.name + OUTPUT for s in self.outputs))

    def __enter__(self) -> Intervention:
        """Put the hooks in place; what was put in place before a failure is taken back."""
        if self._undo:
            raise InputError("this intervention is active already; make a new one for a nested block.")
        self._forwards, self._begun = 0, False
        self.ran.clear()
        try:
            self._install()
            _installed.append(self)
            self._undo.append(lambda: _installed.remove(self))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Take everything back, then complain if a matched site never ran although the network did."""
        self.close()
        idle = [name for name in self.matched if not self.ran[name]]
        if kind is None and idle and self._forwards:
            raise InputError(
                f"the network ran {self._forwards} times, but these sites were never reached: {', '.join(idle)}."
            )

    def close(self) -> None:
        """Take everything back; calling it again does nothing."""
        while self._undo:
            self._undo.pop()()

    def _install(self) -> None:
        modules = dict(self.module.named_modules())
        self._hook(self.module.register_forward_pre_hook(self._begin))
        for name, group in _by_module(self.shortcuts).items():
            self._install_shortcut(group, modules[name])
        for name, group in _by_module(self.inputs).items():
            self._hook(modules[name].register_forward_pre_hook(self._on_input(group), with_kwargs=True))
        for name, group in _by_module(self.outputs).items():
            self._hook(modules[name].register_forward_hook(self._on_output(group)))
        if self.padding == "circular":
            for name in _by_module(self.inputs):
                self._allow_wrapping(modules[name])

    def _hook(self, handle: Any) -> None:
        self._undo.append(handle.remove)

    def _begin(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if tracing.get():
            return
        self._calls.clear()
        self._begun = True
        self._forwards += self._active(module)

    def _active(self, m: nn.Module) -> bool:
        return self.when == "always" or (self.when == "train") == m.training

    def _site_of_call(self, group: Sequence[Site], end: str = "") -> Site | None:
        """Count a call of a module, at its beginning or its end; which of its sites this is."""
        if tracing.get():
            return None
        self._calls[group[0].module + end] += 1
        if group[0].name == group[0].module:  # it runs once: no call is mistaken, even of a part of the network
            return group[0]
        if not self._begun:
            raise InputError(f"call the network, not a part of it: {group[0].name} counts calls from its start.")
        return next((s for s in group if s.call == self._calls[s.module + end]), None)

    def _on_input(self, group: Sequence[Site]) -> Callable[..., Any]:
        def hook(m: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            site = self._site_of_call(group)
            if site is None or not self._active(m):
                return None
            if self.padding == "circular":
                m.__dict__["padding_mode"] = "circular"
            x = entering(site, args, kwargs)
            new = self._changed(site, x, self.inputs[site])
            if site in self.prefixes:
                new = with_prefix(new, site, self.prefixes[site])
            return with_map(args, kwargs, new)

        return hook

    def _on_output(self, group: Sequence[Site]) -> Callable[..., Any]:
        def hook(m: nn.Module, args: tuple[Any, ...], output: Tensor) -> Any:
            site = self._site_of_call(group, OUTPUT)
            return self._changed(site, output, self.outputs[site], OUTPUT) if site and self._active(m) else None

        return hook

    def _changed(self, site: Site, x: Tensor, change: Change, end: str = "") -> Tensor:
        if torch._C._current_graph_task_id() != -1:  # a backward pass is under way; new draws would be other ones
            raise InputError(
                f"{site.name} runs again in the backward pass (gradient checkpointing), where it would be changed "
                "otherwise than before; switch checkpointing off, as by net.set_grad_checkpointing(False)."
            )
        self.ran[site.name + end] += 1
        return from_maps(change(as_maps(x, site)), x, site)

    def _install_shortcut(self, group: Sequence[Site], block: Any) -> None:
        """The block as a whole sees changed maps, its branch (`conv1`) gets the original ones back."""
        kept: list[tuple[Tensor, Tensor]] = []  # the block's input, and what became of it

        def at_block(m: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            site = self._site_of_call(group)
            kept.clear()
            if site is None or not self._active(m):
                return None
            x = entering(site, args, kwargs)
            kept.append((x, self._changed(site, x, self.shortcuts[site])))
            return with_map(args, kwargs, kept[0][1])

        def at_branch(m: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if not kept:
                return None
            given, changed = kept[0]
            # A block nested in this one changes the input once more.
            if map_in(args, kwargs) is not changed and sum(i.module is self.module for i in _installed) == 1:
                raise InputError(
                    f"{group[0].name}: its branch does not take the block's input as it is, so that its shortcut "
                    "cannot be changed apart from it; give shortcuts=False."
                )
            return with_map(args, kwargs, given)

        self._hook(block.register_forward_pre_hook(at_block, with_kwargs=True))
        self._hook(block.register_forward_hook(lambda *_: kept.clear(), always_call=True))
        for name in dict.fromkeys(name for site in group for name in self.branches[site]):
            branch = self.module.get_submodule(name)
            self._hook(branch.register_forward_pre_hook(at_branch, with_kwargs=True))

    def _allow_wrapping(self, conv: Any) -> None:
        """A changed call of the convolution wraps around; its other calls, and those in the other mode, do not."""
        if not isinstance(conv, nn.Conv2d) or isinstance(conv.padding, str):
            raise InputError("padding='circular' needs nn.Conv2d modules with numeric padding.")
        if type(conv).forward is not nn.Conv2d.forward:
            raise InputError(
                f"padding='circular' does not reach a {type(conv).__name__}, which pads by itself; give padding='keep'."
            )
        before = conv.padding_mode

        def put_back(*_: object) -> None:
            conv.padding_mode = before

        self._undo.append(put_back)
        self._hook(conv.register_forward_hook(put_back, always_call=True))


def entering(site: Site, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """The map that enters a site in a call.

    Raises:
        InputError: if there is none in this call.
    """
    x = map_in(args, kwargs)
    if x is None:
        raise InputError(f"{site.name} is called without a map here, and had one when its sites were listed.")
    return x


def _by_module(sites: Mapping[Site, Change]) -> dict[str, list[Site]]:
    groups: dict[str, list[Site]] = {}
    for site in sites:
        groups.setdefault(site.module, []).append(site)
    return groups
