"""The removals that make another network: by the name of a study's method which surgery, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from whatwhere.need.gap_fc import collapse
from whatwhere.need.one_by_one import pointwise
from whatwhere.need.studies.result import GAP_FC, TRUNCATED
from whatwhere.need.truncated import truncate
from whatwhere.network import Network

SURGEONS: Mapping[str, Any] = {"collapse": collapse, "pointwise": pointwise, "truncate": truncate}
REMOVALS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    GAP_FC: ("collapse", {}),
    "pointwise": ("pointwise", {}),
    "pointwise-average": ("pointwise", {"local": "average"}),
    "pointwise-max": ("pointwise", {"local": "max"}),
    TRUNCATED: ("truncate", {}),
}


def operated(net: Network, method: str, site: str, seed: int) -> Network:
    """A network with spatial information removed from a site on.

    Kernel sums of a fresh He initialisation are a fresh He initialisation of the linear maps, so that a network may be
    operated on before its training.

    Args:
        net: it is left alone.
        method: one of `REMOVALS`.
        site: from where on.
        seed: of weights that are new, which a truncated network has.
    """
    surgery, options = REMOVALS[method]
    seeded = {"seed": seed} if method == TRUNCATED else {}
    new: Network = SURGEONS[surgery](net, site, **options, **seeded)
    return new


def call_of(method: str, net: str, site: str) -> str:
    """The call that makes such a network, as one types it.

    Args:
        method: one of `REMOVALS`.
        net: what stands for the network.
        site: from where on.
    """
    surgery, options = REMOVALS[method]
    return f"ww.need.{surgery}({net}, {site!r}{''.join(f', {k}={v!r}' for k, v in options.items())})"


def share_left(method: str) -> float:
    """How much of the operations behind the site are left, about: a 3 x 3 kernel has nine weights."""
    return 1 / 9 if method.startswith("pointwise") else 0.0
