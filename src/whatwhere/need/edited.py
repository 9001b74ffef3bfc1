"""A network's graph that is edited from a place on: what every such surgery asks of it, and refuses."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import torch
from torch import fx, nn

from whatwhere.errors import InputError
from whatwhere.graph.flow import Flow
from whatwhere.need.entry import OnlyAt
from whatwhere.need.windows import CONV2D
from whatwhere.site import Site, Sites
from whatwhere.surgery import Replaced

INITS = ("kernel-sum", "fresh")


class EditedGraph:
    """The graph of a network that is a copy already, and whose modules may be replaced.

    Args:
        flow: of the copy.
        original: of the network itself, which stays as it is.
        start: the site from which on it is edited; nothing goes round it.

    Attributes:
        entry: the node whose map enters the site.
        replaced: every module put in the place of another.
    """

    def __init__(self, flow: Flow, original: Flow, start: Site) -> None:
        self.flow, self.original, self.start = flow, original, start
        entry = flow.entering(start)
        assert entry
        self.entry = entry
        self.replaced: list[Replaced] = []

    @cached_property
    def later(self) -> set[fx.Node]:
        """The nodes computed from the map."""
        return self.flow.after(self.entry)

    def refuse_shared(self, node: fx.Node) -> None:
        """Refuse a module that cannot be replaced behind the place alone.

        Raises:
            InputError: if it is called before the place, too.
        """
        calls = [n for n in self.flow.graph.nodes if n.op == "call_module" and n.target == node.target]
        if not all(n in self.later for n in calls):
            raise InputError(
                f"{node.target} runs both before and after it; choose a site before its first call or after its last"
            )

    def convolution_of(self, node: fx.Node) -> dict[str, Any]:
        """The arguments of a call of F.conv2d by their names, with the values of all but the map.

        Raises:
            InputError: if its kernel is computed from the picture.
        """
        given: dict[str, Any] = dict(zip(CONV2D, node.args, strict=False)) | dict(node.kwargs)
        values = fx.node.map_arg({k: v for k, v in given.items() if k != "input"}, lambda n: self._constant(n, node))
        return {"input": given["input"], **values}

    def _constant(self, value: fx.Node, node: fx.Node) -> Any:
        if value in self.flow.sources:
            raise InputError(f"the kernel of {node.name} depends on the picture")
        return self.flow.known(value)

    def keep_to_size(self, *said: str) -> None:
        """Hold a network that asks for its pictures' size to the one at which it was followed.

        Args:
            *said: for the message, as `OnlyAt` takes it: what was done, what to do for another size.
        """
        if not self.original.asked:
            return
        graph, picture, name = self.flow.graph, self.flow.picture, free(self.flow.module, "size")
        self.flow.module.add_module(name, OnlyAt(self.flow.size[1:], *said))
        with graph.inserting_after(picture):
            checked = graph.call_module(name, (picture,))
        picture.replace_all_uses_with(checked, delete_user_cb=lambda user: user is not checked)

    def erase_unread(self) -> None:
        """Drop what is not computed from the picture and read by nobody: kernels that were replaced, sizes."""
        for node in reversed(list(self.flow.graph.nodes)):
            plain = node.op in ("get_attr", "call_function", "call_method") and node.target is not torch._assert
            if plain and not node.users and node not in self.flow.sources and node not in self.flow.changed:
                self.flow.graph.erase_node(node)


def check_open(original: Flow, start: Site) -> None:
    """Refuse a place that something goes round, and a network whose graph is another for other pictures.

    Raises:
        InputError: if something does, or it is.
    """
    if original.entering(start) not in original.narrows:
        raise InputError("spatial information flows around it")
    if original.asked_values:
        raise InputError("its Python asks for values of the picture, and goes one way or another; the graph holds one")


def places_near(table: Sites, start: Site) -> str:
    """Places around a site that nothing goes round, as advice."""
    cuts = table.cuts
    near = sorted(cuts, key=lambda c: abs(c.order - start.order))[:4]
    names = [c.name for c in cuts if c in near and c.name != start.name]
    return f"Nothing goes round {', '.join(names)}: give one of these." if names else "Nothing else can be cut at."


def check_options(init: Any, seed: Any, input_size: Any) -> None:
    """Refuse options that cannot be.

    Raises:
        InputError: naming the option.
    """
    if init not in INITS:
        raise InputError(f"init={init!r}: choose 'kernel-sum' or 'fresh'.")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise InputError(f"seed={seed!r}: give a whole number.")
    if input_size is not None and not _is_size(input_size):
        raise InputError(f"input_size={input_size!r}: give (channels, height, width), three whole numbers above 0.")


def _is_size(given: Any) -> bool:
    return isinstance(given, tuple | list) and len(given) == 3 and all(isinstance(n, int) and n > 0 for n in given)


def redraw(module: nn.Module, names: Iterable[str], seed: int) -> None:
    """Draw the convolutions in some modules anew, by He's initialisation.

    Args:
        module: the network, which is changed.
        names: of modules in it.
        seed: of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    convs = dict.fromkeys(m for n in names for m in module.get_submodule(n).modules() if isinstance(m, nn.Conv2d))
    with torch.no_grad():
        for conv in convs:
            drawn = torch.empty(conv.weight.shape)  # on the CPU: the same on every device
            nn.init.kaiming_normal_(drawn, mode="fan_out", nonlinearity="relu", generator=generator)
            conv.weight.copy_(drawn)
            if conv.bias is not None:
                conv.bias.zero_()


def free(module: nn.Module, name: str) -> str:
    """A name that no part of a module has."""
    return name if not hasattr(module, name) else free(module, f"{name}_")


def nodes_after(graph: fx.Graph, node: fx.Node) -> list[fx.Node]:
    """What comes after a node in a graph, in order."""
    nodes = list(graph.nodes)
    return nodes[nodes.index(node) + 1 :]


def modules_after(graph: fx.Graph, node: fx.Node) -> list[str]:
    """The modules that are called after a node, in order."""
    return [str(n.target) for n in nodes_after(graph, node) if n.op == "call_module"]


def is_map(shape: tuple[int, ...]) -> bool:
    """Of a tensor (N, C, H, W), whether there is more than one position; also of (N, H, W, C)."""
    return len(shape) == 4 and shape[2] * shape[3] > 1


def place(flow: Flow, node: fx.Node) -> str:
    """Where a node is, for a person."""
    if node.op == "call_module":
        return str(node.target)
    owners = [name for name in flow.owners(node) if name]
    return f"{node.name} in {owners[-1]}" if owners else node.name
