"""A graph in the place of a forward, with some operators replaced: of one module, whose parts stay, or of a network.

Sizes stay symbolic in the graph, but where Python asked for a value (whether a map is larger than a window, say), it
holds what followed from the answer. So the graph of a forward holds the question too, and refuses where the answer is
another one; of a network, `Trace.asked` says that there was one.
"""

from __future__ import annotations

import builtins
import inspect
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.graph_module import reduce_graph_module

from whatwhere.errors import InputError
from whatwhere.graph.trace import MUTATES, VALUE, _alone, _functions_looked_into, _Known, _Tracer
from whatwhere.site import evaluating, tracing

Replacement = Callable[..., Any]  # takes what the node takes; a `partial` may add plain values by keyword
_FAILURES = (fx.proxy.TraceError, RuntimeError, TypeError, ValueError, AttributeError, LookupError, NameError)


# ---- the graph of one forward


def forward_graph(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> fx.Graph:
    """The operators of a module's own forward in evaluation mode; its parts, and theirs, stay calls of modules.

    Args:
        module: it is not changed, but for constants that torch.fx finds and keeps on it (`_tensor_constant0`).
        args: what it is called with; tensors are copied first.
        kwargs: likewise.

    Returns:
        A node's `meta["value"]` is what it gave.

    Raises:
        InputError: if its Python does what torch.fx cannot follow; the message says what.
    """
    try:
        given = {name: copies(value) for name, value in arguments_by_name(module, args, kwargs).items()}
        token = tracing.set(True)
        try:
            with _alone, evaluating(module), _functions_looked_into():
                return _OwnTracer(given).trace(module)
        finally:
            tracing.reset(token)
    except _FAILURES as error:
        why = " ".join(str(error).split())[:200]
        raise InputError(f"torch.fx cannot follow the forward of a {type(module).__name__}: {why}") from error


def arguments_by_name(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What a module is called with, by the names that torch.fx gives to placeholders.

    Args:
        module: whose forward it is.
        args: by position.
        kwargs: by name.
    """
    signature = inspect.signature(type(module).forward)
    bound = signature.bind(module, *args, **kwargs)
    bound.apply_defaults()
    stars: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return {stars.get(p.kind, "") + n: bound.arguments[n] for n, p in list(signature.parameters.items())[1:]}


def copies(value: Any) -> Any:
    """Arguments with their tensors, lists and dicts copied: a forward may work in place."""
    if isinstance(value, Tensor):
        return value.clone()
    if type(value) is dict:
        return {k: copies(v) for k, v in value.items()}
    return type(value)(map(copies, value)) if type(value) in (list, tuple) else value


def asks_whether_it_trains(m: nn.Module) -> bool:
    """Whether a module's own Python reads `self.training`."""
    of_torch = (nn.Module, fx.GraphModule, object)
    functions = (f for c in type(m).__mro__ if c not in of_torch for f in vars(c).values() if inspect.isfunction(f))
    return any("training" in f.__code__.co_names for f in functions)


class _Asked(_Known):
    """A value that notes in the graph what Python asks it, and what it answered."""

    def _answer(self, question: str) -> Any:
        answer = getattr(builtins, question)(self.known)
        self.tracer.create_proxy("call_function", same_answer, (self, question, answer), {})
        return answer

    def __bool__(self) -> bool:
        return bool(self._answer("bool"))

    def __len__(self) -> int:
        return int(self._answer("len"))

    def __int__(self) -> int:
        return int(self._answer("int"))

    def __index__(self) -> int:
        return int(self)

    def __float__(self) -> float:
        return float(self._answer("float"))

    def __iter__(self) -> Iterator[Any]:
        return iter([self._at(i) for i in range(len(self))])

    def __contains__(self, value: Any) -> bool:
        return bool(self.tracer.create_proxy("call_function", operator.contains, (self, value), {}))


def same_answer(value: Any, question: str, answer: Any) -> None:
    """Refuse a value of which a graph was made with another answer in mind.

    Args:
        value: as it is now.
        question: what was asked: bool, int, float or len, functions of Python's; `is` for the value itself.
        answer: when the graph was made.

    Raises:
        InputError: if the answer is another one now.
    """
    now = value if question == "is" else getattr(builtins, question)(value)
    if now is not answer and now != answer:
        raise InputError(
            f"this network was rewritten for pictures of another size, or another call: its Python asked for a value, "
            f"which was {answer} then and is {now} now. Rewrite it for this size: give input_size=(C, H, W)."
        )


class _OwnTracer(_Tracer):
    """Follows one forward, and none of the modules that it calls."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        super().__init__(torch.empty(0))
        self.given = given

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Asked(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> Any:
        function, (root, *given) = super().create_args_for_root(root_fn, is_module, concrete_args)
        return function, [root, *map(self._as_seen, given)]

    def _as_seen(self, given: _Known) -> Any:
        """An argument that Python treats as a value of its own (None, a flag, a name) is one in the graph too."""
        if given.known is not None and not isinstance(given.known, bool | str):
            return given
        self.create_proxy("call_function", same_answer, (given, "is", given.known), {})
        return given.known

    def _value(self, node: fx.Node) -> Any:
        return self.given[str(node.target)] if node.op == "placeholder" else super()._value(node)


# ---- with some of its operators replaced


class Rewritten(fx.GraphModule):
    """A module with the parts, attributes and state of another, whose forward is a graph.

    In training its parts do what they do in training; its own operators do what they did when the graph was made, in
    evaluation mode.

    Args:
        root: the other module; it is used up.
        graph: of its forward.
        class_name: how it shows itself.
    """

    def __init__(self, root: Any, graph: fx.Graph, class_name: str = "GraphModule") -> None:
        super().__init__(root, graph, class_name)
        of_graph = self.__dict__.keys() - nn.Module().__dict__.keys()
        self.__dict__.update({k: v for k, v in root.__dict__.items() if k not in of_graph})

    def _deepcopy_init(self) -> Callable[..., None]:
        return partial(Rewritten.__init__, class_name=type(self).__name__)

    def __reduce__(self) -> tuple[Any, ...]:
        _, (state, imports) = super().__reduce__()
        return _unpickled, (state, imports, type(self).__name__)


def _unpickled(state: dict[str, Any], imports: str, class_name: str) -> Rewritten:
    plain: Any = reduce_graph_module(state, imports)
    return Rewritten(plain, plain.graph, class_name)


def called_parts(root: nn.Module, graph: fx.Graph) -> nn.Module:
    """Of a whole network's modules those that its graph calls, in plain modules in the place of those around them.

    Args:
        root: the network that the graph was made of.
        graph: of all that it does.
    """
    return fx.GraphModule(root, graph, class_name=type(root).__name__)


def rewritten(
    root: nn.Module, graph: fx.Graph, replacements: Mapping[fx.Node, Replacement] = MappingProxyType({})
) -> Rewritten:
    """A module that computes a graph, with other functions in the place of some nodes.

    Names of submodules, parameters and buffers stay; it trains, and can be copied and pickled.

    >>> traced = trace(copied(net), (3, 224, 224))
    >>> new = rewritten(traced.module, traced.graph, {node: partial(other, scale=2.0)})

    Args:
        root: the module that the graph was made of, a copy of the user's, or its `called_parts`; its parts are taken
            over.
        graph: of its forward; it is not changed.
        replacements: for each node to replace a function of a module's (no lambda) that takes the same arguments, or a
            `functools.partial` of one with further ones by keyword.
    """
    made = fx.Graph()
    new: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        copied = made.node_copy(node, new.__getitem__)
        copied.meta = {k: v for k, v in copied.meta.items() if k not in (VALUE, MUTATES)}
        if node in replacements:
            _replace(copied, replacements[node])
        if copied.op == "call_function" and str(getattr(copied.target, "__module__", "")).startswith("whatwhere"):
            copied.meta["is_wrapped"] = True  # stays one operator where torch.fx follows it again, as in unpickling
        new[node] = copied
    made.lint()
    _keep_out_of_state(root, made)
    return Rewritten(root, made, type(root).__name__)


def _replace(node: fx.Node, by: Replacement) -> None:
    bound = by if isinstance(by, partial) else partial(by)
    node.op, node.target = "call_function", bound.func
    node.args, node.kwargs = (*bound.args, *node.args), {**node.kwargs, **bound.keywords}


def _keep_out_of_state(root: nn.Module, graph: fx.Graph) -> None:
    """Constants that torch.fx found among the arguments move with the module, but are no part of its state."""
    for node in graph.nodes:
        name = str(node.target)
        if node.op == "get_attr" and isinstance(root.__dict__.get(name), Tensor):
            root.register_buffer(name, root.__dict__.pop(name), persistent=False)
