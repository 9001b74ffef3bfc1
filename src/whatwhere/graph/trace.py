"""A network's operators in the order they run, by torch.fx, whatever control flow its Python has.

torch.fx traces symbolically and gives up where Python asks for a value. Here every proxy knows the value that it had on
a pair of random pictures, so that questions about sizes are answered, and sizes still stay symbolic in the graph: it
runs on batches of any size. Modules of torch stay whole, as do those that behave differently in training.
"""

from __future__ import annotations

import operator
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx import _symbolic_trace as symbolic

from whatwhere.errors import InputError
from whatwhere.layers import NORMS, POOLS, map_in
from whatwhere.network import running
from whatwhere.site import evaluating, tracing

VALUE = "value"  # in a node's meta: what it gave on the pair of pictures
MUTATES = "mutates"  # the nodes whose values it changed in place
WHOLE = (nn.modules.conv._ConvNd, nn.Linear, nn.modules.dropout._DropoutNd, *NORMS, *POOLS)
PICTURES = 2
_TELLS = ("item", "tolist", "equal", "allclose", "is_nonzero")  # functions that give a tensor's values to Python

_alone = threading.Lock()  # torch.fx patches nn.Module while it traces


@dataclass(frozen=True)
class Trace:
    """What a traced forward pass was made of.

    Attributes:
        module: the network that was traced; it is not changed.
        graph: its operators. A node's `meta["value"]` is what it gave on `PICTURES` random pictures.
        size: (C, H, W) of these.
        entering: for each call of a module, by name and number from 1, the node whose map entered it.
        left: likewise, what the call gave.
        asked: whether Python asked for a value that follows from the picture, so that the graph holds one answer only.
        asked_values: whether that followed from the picture's values, and not from its size alone.
    """

    module: nn.Module
    graph: fx.Graph
    size: tuple[int, int, int]
    entering: dict[tuple[str, int], fx.Node] = field(default_factory=dict)
    left: dict[tuple[str, int], fx.Node] = field(default_factory=dict)
    asked: bool = False
    asked_values: bool = False


def trace(module: nn.Module, size: tuple[int, int, int]) -> Trace:
    """Trace a network in evaluation mode.

    Args:
        module: from pictures (N, C, H, W) to anything; it is not changed.
        size: (C, H, W) of a picture.

    Raises:
        InputError: if the network does not run on such pictures, or its Python does with its values what torch.fx
            cannot follow; the message says what. What was followed is seen to give what the network gives.
    """
    tracer = _Tracer(pictures(module, size))
    token = tracing.set(True)
    try:
        with _alone, evaluating(module), running(module, size):
            given = module(tracer.pictures.clone())
            with _functions_looked_into():
                graph = _followed(tracer, module)
            if not _alike(tracer.outcome, given) and _alike(module(tracer.pictures.clone()), given):
                raise InputError(
                    f"net, a {type(module).__name__}: torch.fx cannot follow its dataflow; what it followed gives "
                    "other values than the network. A hook, or Python that it does not see, changes them."
                )
    finally:
        tracing.reset(token)
    return Trace(module, graph, size, tracer.entering, tracer.left, tracer.asked, tracer.asked_values)


def _alike(a: Any, b: Any) -> bool:
    """Whether two outputs are the same, but for rounding."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and torch.allclose(a, b, rtol=1e-3, atol=1e-5 * _largest(b), equal_nan=True)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return list(a) == list(b) and all(_alike(a[k], b[k]) for k in a)
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        return len(a) == len(b) and all(map(_alike, a, b))
    return True  # of other values torch.fx keeps what it can


def _largest(x: Tensor) -> float:
    finite = x.detach()[x.isfinite()] if not x.is_meta else x.new_zeros(0)
    return float(finite.abs().max()) if finite.numel() else 0.0


def _followed(tracer: _Tracer, module: nn.Module) -> fx.Graph:
    try:
        return tracer.trace(module)
    except (fx.proxy.TraceError, RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError) as error:
        why = f"torch.fx cannot follow its dataflow: {' '.join(str(error).split())[:200]}"
        raise InputError(f"net, a {type(module).__name__}: {why}.") from error


def pictures(module: nn.Module, size: tuple[int, int, int]) -> Tensor:
    """A pair of random pictures (2, C, H, W), different: two equal ones could hide a division of the batch."""
    like = next((p for p in module.parameters() if p.is_floating_point()), torch.empty(0))
    drawn = torch.randn(PICTURES, *size, generator=torch.Generator().manual_seed(0))
    return drawn.to(device=like.device, dtype=like.dtype)


@contextmanager
def _functions_looked_into() -> Iterator[None]:
    """Functions that libraries mark as not to be traced (by fx.wrap) hide operators; they need not be left whole."""
    marked = symbolic._wrapped_fns_to_patch
    kept = dict(marked)
    marked.clear()
    try:
        yield
    finally:
        marked.update(kept)


def put_at(value: Any, key: Any, new: Any) -> Any:
    """Item assignment as a function: torch.fx cannot follow the statement again, and what it gives is what changed."""
    value[key] = new
    return value


class _Known(fx.Proxy):
    """A value that is followed, and known on the pair of pictures."""

    @property
    def known(self) -> Any:
        return self.node.meta[VALUE]

    def __getattr__(self, k: str) -> Any:
        # A method is followed when it is called, as torch.fx does; anything else (a shape) is a value at once.
        if callable(getattr(self.known, k)):
            return super().__getattr__(k)
        return self.tracer.create_proxy("call_function", getattr, (self, k), {})

    @property
    def answered(self) -> Any:
        """The value, where the graph will hold what followed from it."""
        tracer: Any = self.tracer
        tracer.note_question(self.node)
        return self.known

    def __bool__(self) -> bool:
        return bool(self.answered)

    def __len__(self) -> int:
        return len(self.known)

    def __index__(self) -> int:
        return operator.index(self.answered)

    def __int__(self) -> int:
        return int(self.answered)

    def __float__(self) -> float:
        return float(self.answered)

    def __iter__(self) -> Iterator[Any]:
        return iter([self._at(i) for i in range(len(self.known))])

    def _at(self, i: int) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operator.getitem, (self, i), {})

    def __contains__(self, value: Any) -> bool:
        return value in self.answered

    def __setitem__(self, key: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", put_at, (self, key, value), {})


def _augmented(name: str) -> Callable[[_Known, Any], Any]:
    """`x += y` as Python does it: a tensor is changed in place, and whoever holds it sees that."""

    def assign(self: _Known, other: Any) -> Any:
        if not isinstance(self.known, Tensor):
            return NotImplemented
        return self.tracer.create_proxy("call_function", getattr(operator, name), (self, other), {})

    return assign


for _name in ("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "iand", "ior", "ixor"):
    setattr(_Known, f"__{_name}__", _augmented(_name))


class _Tracer(fx.Tracer):
    """Traces with proxies that know their values."""

    def __init__(self, pictures: Tensor) -> None:
        super().__init__()
        self.pictures = pictures
        self.entering: dict[tuple[str, int], fx.Node] = {}
        self.left: dict[tuple[str, int], fx.Node] = {}
        self._latest: dict[fx.Node, fx.Node] = {}  # of a value that was changed in place, the node that did it last
        self._calls: Counter[str] = Counter()
        self._holders: dict[int, list[fx.Node]] = defaultdict(list)  # by storage: whose values lie there
        self._of_picture: set[fx.Node] = set()
        self._told: set[fx.Node] = set()  # what is no tensor, but follows from the values of one
        self._executing, self.asked, self.asked_values = False, False, False

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Known(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        kept = isinstance(m, WHOLE) or getattr(m, "whole", False) is True or _is_of_training(m)
        return kept or super().is_leaf_module(m, module_qualified_name)

    def to_bool(self, obj: Any) -> bool:
        return bool(obj)

    def iter(self, obj: Any) -> Iterator[Any]:
        return iter(obj)

    def keys(self, obj: Any) -> Any:
        return obj.known.keys()

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val if self._executing else super().getattr(attr, attr_val, parameter_proxy_cache)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        if self._executing:
            return forward(*args, **kwargs)
        name = self.path_of_module(m)
        self._calls[name] += 1
        call = (name, self._calls[name])
        self._note_map(call, (*args, *kwargs.values()))
        whole = self.is_leaf_module(m, name)
        # Hooks of what is looked into would be called with proxies, which are no business of theirs.
        given = super().call_module(m, forward if whole else m.forward, args, kwargs)
        for hook in [] if whole else _collecting(m):
            hook(m, args, given)
        if isinstance(given, _Known):
            self.left[call] = given.node
        return given

    def _note_map(self, call: tuple[str, int], given: tuple[Any, ...]) -> None:
        """Which of a call's arguments is its map."""
        values = [a.known if isinstance(a, _Known) else None for a in given]
        found = map_in(tuple(values), {})
        if found is not None:
            node = next(a.node for a, v in zip(given, values, strict=True) if v is found)
            self.entering[call] = self._latest.get(node, node)

    def create_proxy(
        self,
        kind: str,
        target: Any,
        args: Any,
        kwargs: Any,
        name: str | None = None,
        type_expr: Any = None,
        proxy_factory_fn: Any = None,
    ) -> fx.Proxy:
        proxy: fx.Proxy = super().create_proxy(kind, target, args, kwargs, name, type_expr, proxy_factory_fn)
        if VALUE not in proxy.node.meta:
            self._executing = True
            try:
                self._run(proxy.node)
            finally:
                self._executing = False
        return proxy

    def note_question(self, node: fx.Node) -> None:
        """Python asks for the value of a node."""
        told = node in self._told or (node in self._of_picture and isinstance(node.meta[VALUE], Tensor))
        self.asked, self.asked_values = True, self.asked_values or told

    def _note_origin(self, node: fx.Node, value: Any) -> None:
        inputs = node.all_input_nodes
        if node is self._first or any(n in self._of_picture for n in inputs):
            self._of_picture.add(node)
            tells = getattr(node.target, "__name__", node.target) in _TELLS or any(n in self._told for n in inputs)
            if tells and not isinstance(value, Tensor):
                self._told.add(node)

    @property
    def outcome(self) -> Any:
        """What the network gave, by the graph."""
        output = next(n for n in reversed(self.graph.nodes) if n.op == "output")
        return fx.node.map_arg(output.args[0], self._known)

    def _run(self, node: fx.Node) -> None:
        """Let a node give its value, and note whose values it changed."""
        before = {n: v._version for n in node.all_input_nodes if isinstance(v := self._known(n), Tensor)}
        node.meta[VALUE] = value = self._value(node)
        self._note_origin(node, value)
        changed = [n for n, version in before.items() if n.meta[VALUE]._version != version]
        if node in self._of_picture and any(n.op == "get_attr" for n in changed):
            raise InputError(
                "its forward writes what it computes into a tensor that is not made of the picture, and reads it "
                "unseen; make that of the map, by x.new_zeros(...)"
            )
        node.meta[MUTATES] = [h for n in changed for h in self._holders[_storage(n.meta[VALUE])]]
        self._latest.update(dict.fromkeys(node.meta[MUTATES], node))
        if isinstance(value, Tensor):
            self._holders[_storage(value)].append(node)

    def _value(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            return self.pictures.clone() if node is self._first else (node.args[0] if node.args else None)
        return execute(self.root, node, self._known)

    def _known(self, node: fx.Node) -> Any:
        if VALUE not in node.meta:  # a tensor of the network's that torch.fx has found among arguments
            node.meta[VALUE] = execute(self.root, node, self._known)
        return node.meta[VALUE]

    @property
    def _first(self) -> fx.Node:
        return next(iter(self.graph.nodes))


RESERVES = ("empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided")


def execute(module: nn.Module, node: fx.Node, value_of: Any) -> Any:
    """What a node of a graph gives for the values of its inputs; memory that it only reserves holds 0, not chance."""
    found = _executed(module, node, value_of)
    reserved = getattr(node.target, "__name__", node.target) in RESERVES
    return found.zero_() if reserved and isinstance(found, Tensor) else found


def _executed(module: nn.Module, node: fx.Node, value_of: Any) -> Any:
    args = fx.node.map_arg(node.args, value_of)
    kwargs = fx.node.map_arg(node.kwargs, value_of)
    if node.op == "call_function":
        return node.target(*args, **kwargs)  # type: ignore[operator]
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    if node.op == "call_module":
        return module.get_submodule(str(node.target))(*args, **kwargs)
    return operator.attrgetter(str(node.target))(module) if node.op == "get_attr" else args[0]


def _storage(value: Tensor) -> int:
    return value.untyped_storage().data_ptr()


def _is_of_training(m: nn.Module) -> bool:
    """Whether this is a plain layer that does something else in training (drop path, say), and must stay a module."""
    code: Any = getattr(type(m).forward, "__code__", None)
    reads = code is not None and "training" in code.co_names
    return reads and next(m.children(), None) is None and all(p.ndim < 2 for p in m.parameters())


def _collecting(m: nn.Module) -> list[Callable[..., Any]]:
    """The hooks by which transformers' networks collect their own hidden states, which heads then read."""
    return [h for h in m._forward_hooks.values() if (h.__module__ or "") == "transformers.utils.output_capturing"]
