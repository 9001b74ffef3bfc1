"""The joint study's cells: each trained network of the comparison, measured by the instruments of Hold and Need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from whatwhere.data import Data
from whatwhere.errors import InputError
from whatwhere.graph.flow import flow_of
from whatwhere.hold.studies.readout_plan import ReadoutPlan
from whatwhere.lab.cells import Cell, Store
from whatwhere.lab.options import as_tuple
from whatwhere.lab.packed import checked_repeats
from whatwhere.lab.rows import SEEDS, checked_counts
from whatwhere.lab.study import Finished, Plan, Run
from whatwhere.models.load import load_model
from whatwhere.network import Network
from whatwhere.site import Sites
from whatwhere.site_table import list_sites
from whatwhere.use.places import Places
from whatwhere.use.studies.compare import Compare
from whatwhere.use.studies.compare_plan import ComparePlan
from whatwhere.use.studies.compare_result import NONE
from whatwhere.use.studies.joint import Joint
from whatwhere.use.studies.joint_cell import JointWorker, Look, readout
from whatwhere.use.studies.joint_result import FRESH, JointResult
from whatwhere.use.studies.joint_rows import rows_of

MOST_SITES = 12  # that are chosen automatically; more make an unreadable figure, and cost as much each
MEANS_ONLY = (
    "95 % intervals are over seeds alone and hold for these very test pictures: some cells are of an earlier version, "
    "which kept means only. To have both in them, delete the folder 'joint' and run the same command."
)
ONE = "There is one seed: differences between networks have no interval, so methods cannot be compared."
NOTES = (
    "95 % intervals of single sites are not corrected for the number of sites; the conclusion rests on the mean over "
    "depths alone.",
    f"{FRESH}: the same networks before their training. If they differ as much, architecture explains the difference.",
    "rgb: the raw input. Lost: the share of the intact network's accuracy that shuffling takes. In percentage points "
    "any more accurate network would seem to need more, because all networks fall to chance.",
)


class JointPlan(Plan[Joint, JointResult]):
    """A cell is one network of the comparison: a method and a seed."""

    keeps_weights: ClassVar[bool] = True

    folder: ClassVar[str] = "joint"  # inside of the comparison's

    @cached_property
    def comparison(self) -> ComparePlan:
        """The comparison with the same options."""
        return ComparePlan(Compare(**{f.name: getattr(self.study, f.name) for f in fields(Compare)}))

    @cached_property
    def data(self) -> Data:
        """The pictures."""
        return self.comparison.study.data_source.data

    @cached_property
    def plain(self) -> Network:
        """The plain network, in which sites are chosen."""
        return load_model(self.study.model, classes=len(self.data.classes), width=self.study.width)

    @cached_property
    def table(self) -> Sites:
        """Its sites."""
        return list_sites(self.plain, input_size=self.size)

    @property
    def size(self) -> tuple[int, int, int]:
        """(C, H, W) of the pictures."""
        return self.data.test.shape(self.plain.preprocessing)

    @cached_property
    def look(self) -> Look:
        """How every network is measured.

        Raises:
            InputError: for unknown sites or targets, or numbers out of range.
        """
        s = self.study
        checked_counts(pictures=s.pictures, test_pictures=s.test_pictures, limit=s.limit)
        checked_repeats(s.repeats)
        some = {"pictures": s.pictures, "test_pictures": s.test_pictures}
        sites = s.sites if s.sites is not None else depths(self.plain, self.table, input_size=self.size)
        read = ReadoutPlan(readout(self.plain, self.data, sites=sites, targets=as_tuple(s.targets), **some)).reading
        if not read.sites:
            raise InputError("sites holds the raw input alone, which is always read; give sites in the network.")
        return Look(read.sites, tuple(t.name for t in read.targets), s.pictures, s.test_pictures, s.repeats, s.limit)

    @cached_property
    def shares(self) -> dict[str, float]:
        """The depth share of every measured site, in execution order."""
        known = {s.name: s.depth_share for s in self.table}
        return {name: known[name] for name in self.look.sites}

    def before(self) -> Compare:
        """The comparison, which trains the networks; what cannot be measured is refused before hours of training."""
        self.shared()
        return self.comparison.study

    def shared(self) -> Mapping[str, Any]:
        """What the comparison's cells share, and how every network is measured."""
        return {**self.comparison.shared(), "look": self.look.to_dict()}

    def trained(self, folder: Path) -> Finished:
        """The finished cells of the comparison in a folder."""
        store = Store(folder, {"study": Compare.kind, **self.comparison.shared()})
        return Finished(store, store.contents())

    def cells(self, done: Finished) -> Iterable[Cell]:
        """A cell for each network that the comparison has trained, those of earlier calls included."""
        return self.cells_in(done.store.folder.parent)

    def cells_in(self, folder: Path) -> list[Cell]:
        """The cells that measure the trained networks in a comparison's folder."""
        there = self.trained(folder)
        names, seeds = self.comparison.finished(there)
        networks = {(c["name"], c["seed"]): c for c, _ in there}
        asked = [(name, seed) for seed in seeds for name in names if (name, seed) in networks]
        look = self.look.to_dict()
        return [
            Cell({"do": "joint", "network": networks[n, s], "look": look}, f"{n}, seed {s}: hold and need")
            for n, s in asked
        ]

    def check(self, how: Run) -> None:
        """Weights that are gone are refused: the comparison has their cells, so nothing would train them again."""
        store, training = Store(how.folder / self.folder, self.stored()), self.comparison.worker(how)
        for network in (c.config["network"] for c in self.cells_in(how.folder) if not store.has(c)):
            if not training.weights(network).is_file():
                raise _gone(training.weights(network), network, how.folder)

    def stored(self) -> dict[str, Any]:
        """What the folder's study.json holds."""
        return {"study": Joint.kind, **self.shared()}

    def worker(self, how: Run) -> JointWorker:
        """Measures one network."""
        return JointWorker(self.comparison.worker(how))

    def fold(self, done: Finished) -> JointResult:
        """Rows for each method and site."""
        names, seeds = self.comparison.finished(self.trained(done.store.folder.parent))
        found = {(c["network"]["name"], c["network"]["seed"]): result for c, result in done}
        complete = [s for s in seeds if (NONE, s) in found]
        if not complete:
            raise InputError("no plain network is measured yet; run the study without fold_only.")
        measured = [n for n in names if any((n, s) in found for s in complete)]
        missing = [f"{n}, seed {s}" for n in names for s in seeds if (n, s) not in found]
        settings = {**self.comparison.options, "seeds": seeds, "methods": names}
        return JointResult(
            tuple(row for n in measured for row in rows_of(n, complete, found, self.look)),
            data=self.data.describe(),
            settings={**settings, "look": self.look.to_dict(), "depth_shares": self.shares},
            notes=tuple(_notes(complete, missing, over_pictures=all("scores" in r["held"] for _, r in done))),
        )


def _notes(seeds: Sequence[int], missing: Sequence[str], *, over_pictures: bool) -> Iterable[str]:
    yield ONE if len(seeds) == 1 else SEEDS if over_pictures else MEANS_ONLY
    yield from NOTES
    yield from [f"Not finished: {'; '.join(missing)}."] if missing else []


def _gone(weights: Path, network: Mapping[str, Any], folder: Path) -> InputError:
    return InputError(
        f"the weights {str(weights)!r} of {network['name']}, seed {network['seed']}, are gone. If they were moved, "
        f"give weights_folder; else delete {str(folder / 'cells' / f'{Cell(network).key}.json')!r}, and the same "
        "command trains that network again."
    )


def depths(net: Network, table: Sites, *, input_size: tuple[int, int, int] | None = None) -> list[str]:
    """The residual blocks, or what holds the dense layers; evenly spaced where there are many, the last among them.

    Args:
        net: the network.
        table: its sites.
        input_size: (C, H, W) of the pictures that these are of; None is the network's own.

    Raises:
        InputError: if the network has neither.
    """
    blocks = {p.block for p in Places(flow_of(net, input_size=input_size), table).at_ends}
    holders = {b.rpartition(".")[0] for b in blocks}  # a dense layer, whose input is a list, is no site
    every = [s.name for s in table if s.module in blocks] or [s.name for s in table if s.module in holders]
    if not every:
        raise InputError(f"model={net.name!r} has no residual and no dense block; choose another one.")
    chosen = np.linspace(0, len(every) - 1, min(MOST_SITES, len(every))).round().astype(int)
    return [every[i] for i in chosen]
