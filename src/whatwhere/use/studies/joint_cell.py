"""What one cell of the joint question does: how much position a trained network holds, and what shuffling costs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from whatwhere.data import Data
from whatwhere.network import Network
from whatwhere.studies.dependency.curve import dependency
from whatwhere.studies.position.pictures import PICTURES
from whatwhere.studies.position.readout import position
from whatwhere.studies.recalibration.cell import Bench, build, data_of

INTACT = "intact"
SHUFFLE = "per-channel"  # the spatial shuffle of the Need study's paper


@dataclass(frozen=True)
class Look:
    """How every network is looked at, alike.

    Attributes:
        sites: where: position is read out of what leaves a site, and what enters it and all after it is shuffled.
        targets: the maps of position that are read out.
        pictures: to fit the read-outs to.
        test_pictures: to test the read-outs on.
        repeats: draws of every shuffle.
        limit: test pictures on which accuracy under shuffling is measured, at most.
    """

    sites: tuple[str, ...]
    targets: tuple[str, ...] = ("H", "V")
    pictures: int = 500
    test_pictures: int = 200
    repeats: int = 5
    limit: int = 2000

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in a cell."""
        return {**asdict(self), "sites": list(self.sites), "targets": list(self.targets)}

    @staticmethod
    def from_dict(plain: Mapping[str, Any]) -> Look:
        """From a cell's plain values."""
        return Look(**{**plain, "sites": tuple(plain["sites"]), "targets": tuple(plain["targets"])})


@dataclass(frozen=True)
class JointBench:
    """What a cell needs that does not decide its result.

    Attributes:
        training: of the study that trained the networks.
    """

    training: Bench

    def __call__(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Run one cell: the trained network, and the same network before its training as a control."""
        look, data = Look.from_dict(config["look"]), data_of(self.training.data)
        trained, fresh = (self._placed(n) for n in (self.training.trained(config["network"]), build(config["network"])))
        return {
            "held": held(trained, data, look),
            "untrained": held(fresh, data, look),
            "kept": kept(trained, data, look),
        }

    def _placed(self, net: Network) -> Network:
        from lightning_fabric import Fabric  # takes seconds to import

        Fabric(accelerator=self.training.device, devices=1).to_device(net.module)
        return net


def held(net: Network, data: Data, look: Look) -> dict[str, Any]:
    """`spc` of the closed-form read-out, by target and site or `rgb`; and the `n` pictures it rests on."""
    found = position(
        net, data, sites=look.sites, targets=look.targets, pictures=look.pictures, test_pictures=look.test_pictures,
        untrained=0, paddings=(), blanks=(), quiet=True,
    )  # fmt: skip
    spc: dict[str, dict[str, float]] = {target: {} for target in look.targets}
    for row in found.of(inputs=PICTURES):
        spc[row.target][row.site] = row.spc.mean
    return {"spc": spc, "n": found.rows[0].spc.n}


def kept(net: Network, data: Data, look: Look) -> dict[str, Any]:
    """`accuracy`, intact and shuffled from each site on; and the `n` pictures it rests on."""
    some = Data(data.name, {"test": data.test.take(look.limit)})
    found = dependency(net, some, methods=(SHUFFLE,), sites=look.sites, repeats=look.repeats, within=None, quiet=True)
    accuracy = {point.site: point.accuracy.mean for point in found.points}
    return {"accuracy": {INTACT: found.intact[0].accuracy.mean, **accuracy}, "n": found.intact[0].accuracy.n}
