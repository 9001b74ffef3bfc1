"""One cell of the joint study: how much position a trained network holds, and how much accuracy shuffling takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from whatwhere.data import Data
from whatwhere.hold.studies.pictures import PICTURES
from whatwhere.hold.studies.reading import MEASURED
from whatwhere.hold.studies.readout import Readout
from whatwhere.hold.studies.readout_plan import ReadoutPlan
from whatwhere.hold.studies.variants import GIVEN, Variant, cell_of
from whatwhere.lab.packed import pack, unpack_scores
from whatwhere.lab.study import Run, Worker
from whatwhere.need.studies.chunk import measure
from whatwhere.need.studies.curve import Curve
from whatwhere.need.studies.curve_plan import CurvePlan
from whatwhere.need.studies.tally import Tally
from whatwhere.network import Network
from whatwhere.use.studies.compare_plan import CompareWorker, build

INTACT = "intact"
SHUFFLE = "per-channel"  # the spatial shuffle of Fan et al. 2020


@dataclass(frozen=True)
class Look:
    """How every network is measured.

    Attributes:
        sites: position is read out of a site's output; shuffling acts on its input and on everything after it.
        targets: maps of position to read out.
        pictures: pictures to fit the read-outs to.
        test_pictures: pictures to test the read-outs on.
        repeats: draws of every shuffle.
        limit: test pictures for accuracy under shuffling, at most.
    """

    sites: tuple[str, ...]
    targets: tuple[str, ...] = ("H", "V")
    pictures: int = 500
    test_pictures: int = 200
    repeats: int = 5
    limit: int = 2000

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in a cell; with what the read-out's numbers rest on, so that no others are mixed in."""
        plain = {**asdict(self), "sites": list(self.sites), "targets": list(self.targets)}
        return {**plain, "measured": MEASURED}

    @staticmethod
    def from_dict(plain: Mapping[str, Any]) -> Look:
        """From a cell's plain values."""
        known = {name: value for name, value in plain.items() if name != "measured"}
        return Look(**{**known, "sites": tuple(plain["sites"]), "targets": tuple(plain["targets"])})


@dataclass(frozen=True)
class JointWorker(Worker):
    """Measures one network of the comparison.

    Attributes:
        training: the comparison's worker, which finds the trained weights.
    """

    training: CompareWorker

    def __call__(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Run one cell: the trained network, and the same network before its training as a control."""
        look, data, device = Look.from_dict(config["look"]), self.training.data, self.training.device
        trained = self.training.network(config["network"])
        return {
            "held": held(trained, data, look, device),
            "untrained": held(build(config["network"]), data, look, device),
            "kept": kept(trained, data, look, device),
        }


def readout(net: Network, data: Data, **options: Any) -> Readout:
    """The read-out of one network; its controls are cells and rows of the joint study."""
    return Readout(net, data, untrained=0, paddings=(), blanks=(), **options)


def held(net: Network, data: Data, look: Look, device: str = "auto") -> dict[str, Any]:
    """`spc` of the closed-form read-out, by target and site or `rgb`; `n`, its test pictures; `scores`, of each."""
    some = {"pictures": look.pictures, "test_pictures": look.test_pictures}
    plan = ReadoutPlan(readout(net, data, sites=look.sites, targets=look.targets, **some))
    found = plan.worker(Run(device=device, quiet=True))(cell_of(Variant(GIVEN)).config)["rows"]
    rows = [r for r in found if r["inputs"] == PICTURES and not r["shuffled"]]
    scores: dict[str, dict[str, str]] = {target: {} for target in look.targets}
    for row in rows:
        scores[row["target"]][row["group"]] = row["spc"]
    spc = {t: {site: float(unpack_scores(s).mean()) for site, s in of.items()} for t, of in scores.items()}
    return {"spc": spc, "n": len(unpack_scores(rows[0]["spc"])), "scores": scores}


def kept(net: Network, data: Data, look: Look, device: str = "auto") -> dict[str, Any]:
    """`accuracy`, intact and shuffled from each site on; `n`, its test pictures; `hits`, how often each was right."""
    some = Data(data.name, {"test": data.test.take(look.limit)})
    study = Curve(net, some, methods=(SHUFFLE,), sites=look.sites, repeats=look.repeats, within=None, score="accuracy")
    worker = CurvePlan(study).worker(Run(".", device=device, quiet=True))  # nothing is written: it runs no cell
    draws = {(SHUFFLE, cut): look.repeats for cut in worker.cuts}
    found = measure(worker.removals, worker.split, range(len(worker.split)), draws)
    tallies = {p[1] if p else INTACT: tally for p, tally in found.items() if isinstance(tally, Tally)}
    return {
        "accuracy": {site: float(t.rates.mean()) for site, t in tallies.items()},
        "n": len(worker.split),
        "hits": {site: pack(t.hits) for site, t in tallies.items()},
    }
