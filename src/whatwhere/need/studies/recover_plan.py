"""The study's cells: networks as they were given, collapsed or not, and fine-tuned ones."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, ClassVar

from whatwhere.data import Data
from whatwhere.data.loaders import LoaderSplit
from whatwhere.errors import InputError
from whatwhere.fingerprints import architecture, fingerprint
from whatwhere.graph.halves import Halves
from whatwhere.lab.cells import Cell
from whatwhere.lab.options import as_tuple
from whatwhere.lab.rows import ONE_SEED, SEEDS, checked_counts, checked_seeds
from whatwhere.lab.study import Finished, Plan, Run
from whatwhere.models.weights import random_weights
from whatwhere.need.cuts import cuts_of
from whatwhere.need.gap_fc import CollapseReport, collapse
from whatwhere.need.studies.labels import check_labels
from whatwhere.need.studies.recover import Recover
from whatwhere.need.studies.recover_course import BATCH_NORM, DISTILL, FREEZE, FROM, NORMS, UNTIL, asked_of, parted
from whatwhere.need.studies.recover_fold import Fold
from whatwhere.need.studies.recover_result import RecoverResult
from whatwhere.need.studies.recover_worker import FILE, TEST, TUNE, RecoverWorker, fewer, for_pictures
from whatwhere.network import Network
from whatwhere.scores.named import ALONE
from whatwhere.site import Site, Sites
from whatwhere.site_table import list_sites

SAVED = (
    "Each fine-tuned network is kept in a folder, named in the last table: whatwhere evaluate --model FOLDER, or "
    "ww.load_model(FOLDER); every other --model takes it, too."
)
FROZEN = "What lies before a site is frozen, batch statistics included; of each site's control, the same."
DISTILLED = (
    "Distilled, the controls as well: the loss gives a weight of {weight:g} to the divergence from the scores of the "
    "network as it was given (temperature {temperature:g}), and {rest:g} to the labels."
)
ENDED = (
    "{percent:g} % of the training pictures were held out from every training. A collapsed network's training ended "
    "after the first epoch where the upper end of its 95 % interval on these lay within {allowed:g} points of the "
    "network as it was given; so many looks favour a lucky one, and the test pictures decide. Controls were trained to "
    "the end."
)
KEPT = "Batch norms used the statistics of the network as it was given, also in training."
LOAD = (
    "To load a recovered network in Python: import safetensors.torch, whatwhere as ww; net = ww.need.collapse({model}, "
    "SITE, input_size={size}); net.module.load_state_dict(safetensors.torch.load_file(FILE)). The intact one needs no "
    "collapse."
)


class RecoverPlan(Plan[Recover, RecoverResult]):
    """A cell tests a network as it was given, intact or collapsed, or fine-tunes and tests it.

    Raises:
        InputError: for options that cannot work.
    """

    keeps_weights: ClassVar[bool] = True

    def __init__(self, study: Recover) -> None:
        super().__init__(study)
        self.recipe = study.how
        self.asked = asked_of(study)
        self._reports: dict[str, CollapseReport] = {}
        self.seeds = checked_seeds(as_tuple(study.seeds))
        counts = {"pictures": study.pictures, "limit": study.limit}
        checked_counts(**{name: n for name, n in counts.items() if n is not None})

    @cached_property
    def data(self) -> Data:
        """The pictures, at most as many as were asked for.

        Raises:
            InputError: if they have no labels, where the score needs them, or no order that can be repeated.
        """
        given = self.study.data_source.data
        if ALONE[self.study.score].needs:
            check_labels(self.study.data, given.test)
        if not given.test.ordered or isinstance(given.train, LoaderSplit):
            raise InputError(
                "data: fine-tuning draws an order of its own, and test pictures are compared one by one; give the "
                "DataLoader's Dataset for train, and a DataLoader with shuffle=False for test."
            )
        return fewer(given, self.study.pictures, self.study.limit)

    @property
    def measured(self) -> list[Any]:
        """The splits that its numbers come from."""
        return [self.data.train, self.data.test]

    @cached_property
    def net(self) -> Network:
        """The given network, for these pictures; it is left alone."""
        return for_pictures(self.study.network_source.net, self.data)

    @cached_property
    def table(self) -> Sites:
        """Its sites."""
        return list_sites(self.net)

    @cached_property
    def sites(self) -> tuple[str, ...]:
        """Where it is collapsed, each once.

        Raises:
            InputError: if there are none.
        """
        wanted = as_tuple(self.study.sites)
        if not wanted:
            raise InputError("sites is empty; give at least one, such as layer4.0 or 'last 30%'.")
        return tuple(dict.fromkeys(start_of(self.table, each).name for each in wanted))

    @cached_property
    def common(self) -> dict[str, Any]:
        """What every cell depends on."""
        return {
            "network": self.net.name,
            "weights": fingerprint(self.net.module),
            "layers": architecture(self.net.module),
            "preprocessing": self.net.preprocessing.to_dict(),
            "data": {"train": self.data.train.fingerprint, "test": self.data.test.fingerprint},
            "recipe": self.recipe.to_dict(),
            **self.asked,
        }

    def shared(self) -> Mapping[str, Any]:
        """The network with its weights, the pictures and the recipe.

        Raises:
            InputError: for a site that cannot be collapsed, before a folder is made.
        """
        for site in self.sites:
            self.collapsed(site)
            if FREEZE in self.asked:
                self._check_prefix(site)
        return self.common

    def _check_prefix(self, site: str) -> None:
        before = Halves(self.net, next(s for s in self.table if s.name == site)).before
        if not before.parameters:
            raise InputError(
                f"freeze='prefix': no parameter lies before {site}; leave freeze out, or give a later site."
            )

    def collapsed(self, site: str) -> CollapseReport:
        """What collapsing before a site replaces and saves."""
        if site not in self._reports:
            self._reports[site] = collapse(self.net, site).module.__dict__["surgery"]
        return self._reports[site]

    def test(self, site: str | None) -> Cell:
        """The cell that tests the network as it was given, collapsed before a site."""
        return Cell({**self.common, "do": TEST, "site": site}, f"{site or 'intact'}, as given")

    def tune(self, site: str | None, seed: int) -> Cell:
        """The cell that fine-tunes it first."""
        return Cell({**self.common, "do": TUNE, "site": site, "seed": seed}, f"{site or 'intact'}, seed {seed}")

    def control(self, site: str, seed: int) -> Cell:
        """The cell that fine-tunes the intact network like one that is collapsed before a site."""
        if FREEZE not in self.asked:
            return self.tune(None, seed)
        config = {**self.tune(None, seed).config, FROM: site}
        return Cell(config, f"intact, frozen before {site}, seed {seed}")

    def cells(self, done: Finished) -> Iterable[Cell]:
        """The tests, which are quick; then, seed by seed, the networks to fine-tune and their controls."""
        tests = map(self.test, (*self.sites, None))
        return [*tests, *(cell for seed in self.seeds for cell in self._tuned(seed))]

    def _tuned(self, seed: int) -> Iterator[Cell]:
        yield from (self.tune(site, seed) for site in self.sites)
        controls = [self.control(site, seed) for site in self.sites]
        yield from {cell.key: cell for cell in controls}.values()  # one for all, unless prefixes are frozen

    def check(self, how: Run) -> None:
        """Refuse what could not be trained.

        Raises:
            InputError: if nothing can be learned, or a step has too few pictures.
        """
        size, given, module = self.recipe.batch_size, self.data.train, self.net.module
        ends = UNTIL in self.asked and bool(ALONE[self.study.score].needs)
        if bool((given.labels < 0).any()) and (ends or self.study.distill < 1):
            raise InputError(
                "data: the training pictures have no labels; give pictures in class folders, or learn the original's "
                "scores alone: distill=1, until='end' (or score='agreement')."
            )
        train, _ = parted(given, self.asked)
        if size > len(train):
            raise InputError(f"batch_size={size} is more than the {len(train)} training pictures; give a smaller one.")
        if size == 1 and NORMS not in self.asked and any(isinstance(m, BATCH_NORM) for m in module.modules()):
            raise InputError("batch_size=1: batch norm needs at least 2 pictures in a step.")
        if not any(p.requires_grad for p in module.parameters()):
            raise InputError("model: no parameter takes a gradient; set requires_grad on those that may be fine-tuned.")

    def worker(self, how: Run) -> RecoverWorker:
        """Tests or fine-tunes one network."""
        source, study = self.study.network_source, self.study
        most = {"pictures": study.pictures, "limit": study.limit}
        return RecoverWorker(study.data_source, how.files, how.device, network=source, **most)

    def fold(self, done: Finished) -> RecoverResult:
        """The networks before and after, those of earlier calls included.

        Raises:
            InputError: if nothing is finished.
        """
        if not done.contents:
            raise InputError("no cell is finished; run the study without fold_only.")
        shares, seeds = self._finished(done)
        folded = Fold(done, shares, seeds, frozen=FREEZE in self.asked, score=self.study.score)
        rows = tuple(folded.rows())
        return RecoverResult(
            rows,
            data=self.data.describe(),
            settings={**self.common, "sites": list(shares), "seeds": seeds, "allowed": self.study.allowed},
            notes=(*random_weights(self.net), *self._notes(folded), *done.notes()),
            each=tuple(folded.each()),
            cost=self._costs(shares),
            weights=folded.weights(),
        )

    def _finished(self, done: Finished) -> tuple[dict[str, float], list[int]]:
        """Sites with their depth shares, and seeds, those of earlier calls included."""
        configs = [config for config, _ in done]
        seeds = dict.fromkeys([*self.seeds, *sorted({c["seed"] for c in configs if c["do"] == TUNE})])
        depth = {s.name: s.depth_share for s in self.table}
        others = sorted({c["site"] for c in configs} - {None, *self.sites}, key=lambda site: depth[site])
        return {site: depth[site] for site in (*self.sites, *others)}, list(seeds)

    def _notes(self, folded: Fold) -> Iterable[str]:
        most = max((row.measured[self.study.score].repeats for row in folded.rows()), default=1)
        yield SEEDS if most > 1 else ONE_SEED
        yield "Differences are paired: the same seed, the same pictures. The share recovered has Fieller's interval."
        yield from self._how()
        yield from folded.ends(self.recipe.epochs)
        kept = [name for names in folded.weights().values() for name in names]
        if any(not name.endswith(FILE) for name in kept):
            yield SAVED
        if any(name.endswith(FILE) for name in kept):
            yield LOAD.format(model=self._loaded(), size=self.net.input_size)

    def _how(self) -> Iterator[str]:
        """What was asked of the fine-tuning beyond its recipe."""
        if FREEZE in self.asked:
            yield FROZEN
        if NORMS in self.asked:
            yield KEPT
        if distilled := self.asked.get(DISTILL):
            yield DISTILLED.format(**distilled, rest=1 - distilled["weight"])
        if ends := self.asked.get(UNTIL):
            yield ENDED.format(percent=100 * ends["validation"], allowed=ends["allowed"])

    def _loaded(self) -> str:
        """The Python that makes the given network's layers."""
        source = self.study.network_source
        if not isinstance(source.source, str):
            return "net"
        options = json.loads(source.options)
        known = {name: options[name] for name in ("classes", "width") if options[name] not in (None, 1.0)}
        return f"ww.load_model({', '.join([repr(source.source), *(f'{k}={v}' for k, v in known.items())])})"

    def _costs(self, sites: Iterable[str]) -> dict[str, dict[str, int]]:
        """Parameters and FLOPs of the intact network (""), and of each collapsed one."""
        reports = {site: self.collapsed(site) for site in sites}
        first = next(iter(reports.values()))
        after = {site: {"parameters": r.parameters[1], "flops": r.flops[1]} for site, r in reports.items()}
        return {"": {"parameters": first.parameters[0], "flops": first.flops[0]}, **after}


def start_of(table: Sites, wanted: Any) -> Site:
    """Where a selection begins; a share of the convolutions begins where the network can be cut, as in the paper."""
    chosen = table.select(wanted)
    if not (isinstance(wanted, str) and wanted.startswith("last ")):
        return chosen[0]
    cuts = {s.name for s in cuts_of(table)}
    return next((s for s in chosen if s.name in cuts), chosen[0])
