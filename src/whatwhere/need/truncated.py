"""Truncation: what follows a site goes, and a linear layer on the mean of its map gives the scores.

Source: [fan2020]'s code, read for facts: the layers from some depth on are dropped, then global average pooling and a
classifier. Decision: the classifier is one linear layer with torch's own initialisation; of tokens with a prefix (a
class token) the patch tokens are averaged, and the prefix is not read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import fx, nn

from whatwhere.errors import InputError
from whatwhere.graph.flow import Flow, flow_of
from whatwhere.graph.rewrite import Rewritten, called_parts, rewritten
from whatwhere.need.edited import EditedGraph, check_open, check_options, free, places_near
from whatwhere.need.entry import PooledVector
from whatwhere.network import N, Network, as_module
from whatwhere.site import Selection, Site, expected_input_size
from whatwhere.site_table import list_sites
from whatwhere.surgery import as_given, copied, count_parameters, record

POOL, CLASSIFIER = "gap", "new_classifier"  # names of the parts that are added, where these are free


@dataclass(frozen=True)
class TruncateReport:
    """What `truncate` did; the new module carries it as its attribute `surgery`.

    Attributes:
        site: the map that enters this site is averaged and read.
        depth_share: share of the convolutions that are gone.
        dropped: the outermost modules with parameters that are gone.
        classifier: the name of the new linear layer, whose weights are drawn.
        classes: number of scores.
        parameters: (before, after).
        flops: (before, after), of one picture, 2 per multiply-add.
    """

    site: str
    depth_share: float
    dropped: tuple[str, ...]
    classifier: str
    classes: int
    parameters: tuple[int, int]
    flops: tuple[int, int]

    def __str__(self) -> str:
        """A summary line, what is gone, and what is new."""
        (p0, p1), (f0, f1) = self.parameters, self.flops
        head = (
            f"truncated before {self.site}: the last {100 * self.depth_share:.0f} % of the convolutions are gone; "
            f"parameters {p0:,} -> {p1:,}, FLOPs {f0:,} -> {f1:,}."
        )
        new = f"{self.classifier}: GAP, then a new linear layer for {self.classes} classes, which is to be trained"
        return "\n".join([head, f"  gone: {', '.join(self.dropped)}", f"  {new}"])


def truncate(
    net: N,
    site: Selection,
    *,
    classes: int | None = None,
    seed: int = 0,
    input_size: tuple[int, int, int] | None = None,
) -> N:
    """A new network that ends before a site: its map is averaged over space, and a new linear layer gives the scores.

    >>> short = ww.need.truncate(net, site="layer4.0")   # without the last stage
    >>> ww.fit(short, data)                              # the classifier is new: train it

    What is kept computes what it computed, to the bit, and has its names; all else is gone, parameters included. Of
    tokens the patch tokens are averaged, and prefix tokens (a class token) are not read. The new network is a
    `torch.fx.GraphModule`.

    Args:
        net: the network; it is left alone.
        site: where it ends: before the first site of the selection; of a depth share ("last 30%") before the k x k
            convolution or residual block that it names. Something goes round a place inside of a block: choose one of
            `ww.sites(net).cuts`.
        classes: number of scores; None keeps the network's own.
        seed: of the classifier's weights, which are drawn as torch draws those of a linear layer.
        input_size: (C, H, W) of one picture; None takes the network's own.

    Returns:
        What was given: a module for a module, a `Network` for a `Network`. The module's attribute `surgery` is the
        `TruncateReport`.

    Raises:
        InputError: if the selection matches nothing, if information flows around the site, or if the network gives no
            scores that could be counted and `classes` is not given.
    """
    check_options("fresh", seed, input_size)
    if classes is not None and (not isinstance(classes, int) or isinstance(classes, bool) or classes < 1):
        raise InputError(f"classes={classes!r}: give a whole number above 0, or None for as many as the network has.")
    size = input_size or expected_input_size(net)
    before = list_sites(net, input_size=size)
    start, original = before.start(site), flow_of(net, input_size=size)
    scores = classes or _scores_of(original)
    try:
        check_open(original, start)
    except InputError as error:
        raise InputError(f"site={start.name!r}: {error}. {places_near(before, start)}") from error
    module, names = _truncated(original, start, scores, seed)
    report = TruncateReport(
        start.name,
        start.depth_share,
        tuple(_outermost(as_module(net), module)),
        names[1],
        scores,
        (count_parameters(as_module(net)), count_parameters(module)),
        (before.total_flops, list_sites(module, input_size=size).total_flops),
    )
    module.__dict__.update({"surgery": report, "pooled_by": names[0]})  # plain attributes: no parameter, no module
    record(module, net, "need.truncate", site=start.name, classes=scores, seed=seed, input_size=size)
    return _with_names(as_given(net, module, f"{getattr(net, 'name', '')} truncated before {start.name}"), scores)


def _scores_of(original: Flow) -> int:
    shape = original.shapes.get(original.sources[original.output][0], ())
    if len(shape) != 2:
        raise InputError(
            f"classes=None: the network gives no scores (N, classes), but {shape or 'no tensor'}; give the number."
        )
    return shape[1]


def _truncated(original: Flow, start: Site, classes: int, seed: int) -> tuple[Rewritten, tuple[str, str]]:
    """The network, and the names of its pool and its classifier."""
    graph = EditedGraph(flow_of(copied(original.module), input_size=original.size), original, start)
    flow, entry = graph.flow, graph.entry
    channels = start.shape_in[0]
    names = free(flow.module, POOL), free(flow.module, CLASSIFIER)
    flow.module.add_module(names[0], PooledVector(start.layout).train(flow.module.training))
    layer = _classifier(channels, classes, seed).to(flow.example()).train(flow.module.training)
    flow.module.add_module(names[1], layer)
    _drop(flow, entry)
    pooled = flow.graph.call_module(names[0], (entry,))
    flow.graph.output(flow.graph.call_module(names[1], (pooled,)))
    graph.keep_to_size("truncated", "truncate the network again")
    return rewritten(called_parts(flow.module, flow.graph), flow.graph), names


def _classifier(channels: int, classes: int, seed: int) -> nn.Linear:
    """A linear layer with torch's initialisation, from a seed of its own."""
    layer = nn.utils.skip_init(nn.Linear, channels, classes)
    generator = torch.Generator().manual_seed(seed)
    bound = 1 / math.sqrt(channels)
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.uniform_(-bound, bound, generator=generator)
    return layer


def _drop(flow: Flow, entry: fx.Node) -> None:
    """Drop all that a value is not computed from."""
    kept, waiting = {entry, flow.picture}, [entry]
    while waiting:
        node = waiting.pop()
        fresh = {*node.all_input_nodes, *flow.sources.get(node, ())} - kept
        kept |= fresh
        waiting.extend(fresh)
    for node in reversed(list(flow.graph.nodes)):
        if node not in kept and node.op != "placeholder":
            flow.graph.erase_node(node)


def _outermost(before: nn.Module, after: nn.Module) -> Iterator[str]:
    """The modules with parameters that are gone, without those inside of one."""
    left = {name for name, _ in after.named_modules(remove_duplicate=False)}
    gone: list[str] = []
    for name, m in before.named_modules(remove_duplicate=False):
        learns = next(m.parameters(), None) is not None
        if learns and name not in left and not any(name.startswith(f"{g}.") for g in gone):
            gone.append(name)
            yield name


def _with_names(net: N, classes: int) -> N:
    """Without the names of its scores, if there are others now."""
    if isinstance(net, Network) and len(net.classes) not in (0, classes):
        return replace(net, classes=())
    return net
