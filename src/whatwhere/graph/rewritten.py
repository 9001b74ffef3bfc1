"""A network as the graph that was traced of it: operators can be replaced, and it trains and is copied as before."""

from __future__ import annotations

from typing import Any

from torch import fx, nn

from whatwhere.surgery import RECORDS, REPORT


class Rewritten(fx.GraphModule):
    """A network that runs by a changed graph. Its modules and their names are those of the network it was made from.

    What its Python asked of `self.training` outside of its layers is as it was in evaluation mode.
    """

    pooled_by: str  # the name of the module that pools, where one does

    def __deepcopy__(self, memo: dict[int, Any]) -> Rewritten:
        # torch.fx copies modules alone, and forgets the class.
        plain: Any = super().__deepcopy__(memo)
        new = Rewritten(plain, plain.graph, class_name=type(self).__name__)
        new.__dict__.update({k: v for k, v in self.__dict__.items() if k in REPORTS})
        new.training = self.training
        return new


REPORTS = (REPORT, RECORDS, "pooled_by")


def rewritten(module: nn.Module, graph: fx.Graph) -> Rewritten:
    """A network that computes a graph with a module's layers; those that the graph does not call are left out."""
    graph.lint()
    new = Rewritten(module, graph, class_name=type(module).__name__)
    new.training = module.training
    return new
