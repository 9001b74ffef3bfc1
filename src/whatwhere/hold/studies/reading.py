"""What is read out of a network: from which pictures and sites, which maps, and by which read-outs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from whatwhere.hold.features import RGB, Group, Tap, rgb_tap, taps_of
from whatwhere.hold.official import Official
from whatwhere.hold.studies.pictures import Pictures
from whatwhere.hold.studies.readout_result import ALL
from whatwhere.hold.studies.variants import Shape
from whatwhere.hold.targets import Target
from whatwhere.network import Network

OWN = "own"  # a target that is a map of the user's
# Part of a folder's identity: cells of earlier versions, with float32 products and scores at the size of the read-out's
# output, hold other numbers and are not mixed with these.
MEASURED = "float64 products; maps compared at the size of the pictures"


@dataclass(frozen=True)
class Reading:
    """What is read out, from where, how.

    Attributes:
        pictures: to fit and to test.
        sites: where to read, by name; empty for the raw input alone.
        targets: what to read out.
        kernels: of the read-outs.
        readouts: `ridge`, `official`.
        blanks: pictures without content to test on: black, white, noise.
        padding: zeros around the features.
        size: of the features.
        official: settings of the official read-out.
        seed: of draws.
        batch: pictures in a forward pass.
    """

    pictures: Pictures
    sites: tuple[str, ...]
    targets: tuple[Target, ...]
    kernels: tuple[int, ...]
    readouts: tuple[str, ...]
    blanks: tuple[str, ...] = ()
    padding: int = 0
    size: int = 28
    official: Official = field(default_factory=Official)
    seed: int = 0
    batch: int = 32

    def describe(self) -> dict[str, Any]:
        """Everything but the pictures as plain values, for study.json and for other processes."""
        return {
            "sites": self.sites,
            "targets": [[t.name, OWN if t.values is not None else t.range] for t in self.targets],
            "own targets": [t.values.tolist() for t in self.targets if t.values is not None],
            "kernels": self.kernels,
            "readouts": self.readouts,
            "blanks": self.blanks,
            "padding": self.padding,
            "size": self.size,
            "official": asdict(self.official),
            "seed": self.seed,
            "batch_size": self.batch,
            "measured": MEASURED,
        }

    @staticmethod
    def of(pictures: Pictures, described: Mapping[str, Any]) -> Reading:
        """The same from its plain values."""
        d = described
        own = iter(d["own targets"])
        targets = (Target(name, values=_values(next(own))) if r == OWN else Target(name, r) for name, r in d["targets"])
        sites, kernels, readouts, blanks = (tuple(d[name]) for name in ("sites", "kernels", "readouts", "blanks"))
        official, rest = Official(**d["official"]), (d["seed"], d["batch_size"])
        return Reading(
            pictures, sites, tuple(targets), kernels, readouts, blanks, d["padding"], d["size"], official, *rest
        )

    def groups(self, net: Network) -> tuple[list[Tap], list[Group]]:
        """Every tap, and what is read together: each tap alone, all of the network's, and the raw input."""
        shape = self.shape(net)
        inner = taps_of(net, self.sites, input_size=shape) if self.sites else []
        alone = [Group(t.name, (t,)) for t in inner]
        together = [Group(ALL, tuple(inner))] if len(inner) > 1 else []
        raw = rgb_tap(shape)
        return [*inner, raw], [*alone, *together, Group(RGB, (raw,))]

    def shape(self, net: Network) -> Shape:
        """(C, H, W) of a prepared picture."""
        return self.pictures.fit.shape(net.preprocessing)


def _values(plain: Any) -> torch.Tensor:
    return torch.tensor(plain, dtype=torch.float64)
