"""Networks that work by operators on parameters, as networks of modules."""

from __future__ import annotations

import operator
from typing import Any

from torch import fx, nn
from torch.nn.utils import skip_init  # no draws from the global random state

from whatwhere.errors import InputError
from whatwhere.graph.flow import Flow, flow_of
from whatwhere.graph.rewrite import called_parts, rewritten
from whatwhere.network import N, as_module
from whatwhere.site import expected_input_size
from whatwhere.surgery import Replaced, as_given, copied, record

CONV2D = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}  # as in F.conv2d
NAMES = ("input", "weight", "bias", *CONV2D)


def modular(net: N, *, input_size: tuple[int, int, int] | None = None) -> N:
    """The same network with a module in the place of each convolution or linear map that is an operator.

    Places are found, changed and named by modules. A network that calls `F.conv2d` or `F.linear` on parameters of its
    own has none for these; here it gets them, with the same weights, and can be asked as any other.

    >>> net = ww.modular(net)
    >>> ww.sites(net)

    Args:
        net: the network; it is left alone.
        input_size: (C, H, W) of one picture; None takes the network's own.

    Returns:
        What was given: a module for a module, a `Network` for a `Network`; it is a `torch.fx.GraphModule`, whose new
        modules are named after the operators (`conv2d`, `conv2d_1`, ...). What Python asked of `training` outside of
        layers is as it was in evaluation mode.

    Raises:
        InputError: if there is no such operator, or the network asks for its pictures' size, so that its operators are
            other ones at another size.
    """
    size = input_size or expected_input_size(net)
    flow = flow_of(copied(as_module(net)), input_size=size)
    if flow.asked:
        raise InputError("net: it asks for its pictures' size, and its operators are known at one size only.")
    replaced = [r for node in flow.nodes for r in [_as_module(flow, node)] if r]
    if not replaced:
        raise InputError("net: it calls no F.conv2d and no F.linear on parameters of its own; use it as it is.")
    for node in [n for n in flow.graph.nodes if n.op == "get_attr" and not n.users]:
        flow.graph.erase_node(node)
    module = rewritten(called_parts(flow.module, flow.graph), flow.graph)
    module.__dict__["surgery"] = tuple(replaced)
    record(module, net, "modular", input_size=input_size)
    return as_given(net, module, getattr(net, "name", ""))


def _as_module(flow: Flow, node: fx.Node) -> Replaced | None:
    """Call a module in the place of an operator; None if it is another, or its weights are no parameters."""
    name = getattr(node.target, "__name__", "")
    if node.op != "call_function" or name not in ("conv2d", "linear"):
        return None
    given = dict(zip(NAMES, node.args, strict=False)) | node.kwargs
    weight, bias = (_parameter(flow, given.get(n)) for n in ("weight", "bias"))
    if weight is None or (bias is None and given.get("bias") is not None):
        return None
    new = _convolution(given, weight, bias) if name == "conv2d" else _linear(weight, bias)
    flow.module.add_module(node.name, new.train(flow.module.training))
    with flow.graph.inserting_before(node):
        call = flow.graph.create_node("call_module", node.name, (given["input"],), name=f"{node.name}_called")
    node.replace_all_uses_with(call)
    flow.graph.erase_node(node)
    return Replaced(node.name, f"F.{name}", type(new).__name__)


def _parameter(flow: Flow, node: Any) -> nn.Parameter | None:
    """The parameter that a node of the graph is; None if it is computed."""
    found = operator.attrgetter(str(node.target))(flow.module) if getattr(node, "op", "") == "get_attr" else None
    return found if isinstance(found, nn.Parameter) else None


def _convolution(given: dict[str, Any], weight: nn.Parameter, bias: nn.Parameter | None) -> nn.Conv2d:
    options = {**CONV2D, **{k: v for k, v in given.items() if k in CONV2D}}
    channels = weight.shape[1] * int(options["groups"])
    new = skip_init(nn.Conv2d, channels, weight.shape[0], tuple(weight.shape[2:]), bias=bias is not None, **options)
    new.weight, new.bias = weight, bias
    return new


def _linear(weight: nn.Parameter, bias: nn.Parameter | None) -> nn.Linear:
    new = skip_init(nn.Linear, weight.shape[1], weight.shape[0], bias=bias is not None)
    new.weight, new.bias = weight, bias
    return new
