"""What an audit asks, part by part: the study of each, with what fits into the time."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

import torch

from whatwhere import hold, need, say, use
from whatwhere.audits.budget import Budget, Speed, speed_of
from whatwhere.audits.failures import Shuffled, failures
from whatwhere.audits.known import known_answers
from whatwhere.audits.study import Audit
from whatwhere.costs import cost
from whatwhere.data import Data, Split
from whatwhere.data.boxes import BoxSplit
from whatwhere.data.scenes import SceneSplit
from whatwhere.data.sources import Rows
from whatwhere.errors import InputError
from whatwhere.files import read_json
from whatwhere.lab.sources import place
from whatwhere.lab.study import Run, Study, run_study
from whatwhere.need.studies.chunk import AnySplit
from whatwhere.need.studies.curve_points import groups_of
from whatwhere.need.studies.on_pictures import sized
from whatwhere.need.studies.result import NeedResult
from whatwhere.network import Network
from whatwhere.receptive import receptive_fields
from whatwhere.site import Site, Sites
from whatwhere.site_table import list_sites

CHECK, SPEED, NEED, PATCHES, HOLD, FIELDS, USE, SAY, FAILURES = (
    "check",
    "speed",
    "need",
    "patches",
    "hold",
    "fields",
    "use",
    "say",
    "failures",
)
PARTS = (CHECK, NEED, PATCHES, HOLD, FIELDS, USE, SAY, FAILURES)  # what may be left out
METHODS = ("per-channel", "mean")
GRIDS = (2, 4, 8)
READ_SIZE = 14  # height and width of the features that are read
GATES = ("se", "ms_sar")
NOT_ANEW = "Gates were not trained: a network is trained anew by its name, which was not given."
SEEDS = (0, 1)  # of networks that are trained
TARGETS = ("H", "V", "G")
NO_CONCEPTS = (
    "a bottleneck that speaks in concepts needs pictures with label maps, and a segmentation network; for those, "
    "whatwhere say compare."
)
SAVE_FIRST = "ww.save(ww.load_model({model!r}, pretrained=True), 'net') in Python, then "
SAY_TAKES = (
    "a bottleneck must be trained, which takes longer than an audit; --train true does it all the same, and so does: "
    "{saved}whatwhere say compare {words} --sites {site} --out say"
)


@dataclass(frozen=True)
class Asked:
    """A network and pictures, and what is asked of them.

    Attributes:
        study: the options.
        how: where it runs.
    """

    study: Audit
    how: Run

    @cached_property
    def split(self) -> AnySplit:
        """The test pictures."""
        return self.study.data_source.given.test

    @cached_property
    def net(self) -> Network:
        """The network, which knows the size of the pictures."""
        return place(sized(self.study.network_source.net, self.split), self.how.device)

    @cached_property
    def table(self) -> Sites:
        """Its sites, at the size of the pictures."""
        return list_sites(self.net, input_size=self.split.shape(self.net.preprocessing))

    @property
    def is_classifier(self) -> bool:
        """Whether one answer is given of the whole picture."""
        return not isinstance(self.split, SceneSplit | BoxSplit)

    @cached_property
    def places(self) -> list[Site]:
        """Where it can be asked: a classifier at its cuts; with few of them, or of another task, block by block."""
        cuts = [s for s in self.table.cuts if s.shape]
        mixing = blocks_of(self.table)
        return cuts if (self.is_classifier and len(cuts) > 2) or not mixing else mixing

    @cached_property
    def pictures(self) -> Data:
        """The pictures alone, of every split: what comes with them is not looked at."""
        given = self.study.data_source.given
        if isinstance(given, Data):
            return given
        plain = {n: Split(n, s.pictures, torch.full((len(s),), -1)) for n, s in given.splits.items()}
        return Data(given.name, plain)

    @property
    def reach(self) -> str | int:
        """Of a classifier from a place to the end; elsewhere there alone, since the answer itself is a map."""
        cuts = {s.name for s in self.table.cuts}
        return "from" if self.is_classifier and all(s.name in cuts for s in self.places) else 1

    def options(self) -> dict[str, Any]:
        """The network and the pictures, as every study takes them."""
        names = ("model", "data", "weights", "pretrained", "classes", "width")
        return {name: getattr(self.study, name) for name in names}

    def held(self) -> dict[str, Any]:
        """The same network, and the pictures alone, as objects."""
        named = isinstance(self.study.model, str) and not self.study.pretrained
        classes = self.study.classes or len(self.split.classes)  # which the pictures alone do not say
        return {"data": self.pictures, **({"classes": classes} if named else {})}

    def run(self, study: Study[Any], part: str) -> dict[str, Any]:
        """A study's result in a folder of its own, as plain values."""
        how = Run(self.how.folder / part, device=self.how.device, quiet=self.how.quiet)
        plain: dict[str, Any] = run_study(study, how).to_dict()
        return plain


def blocks_of(table: Sites) -> list[Site]:
    """The smallest parts with two or more spatial convolutions inside, and those convolutions that are in none."""
    convs = [s for s in table if s.is_spatial_conv and s.shape]
    inside = Counter(name for s in convs for name in s.parents)
    groups = [s for s in table if inside[s.name] > 1 and s.shape]
    smallest = [g for g in groups if not any(g.name in other.parents for other in groups)]
    within = {g.name for g in smallest}
    return sorted([*smallest, *(s for s in convs if not within & set(s.parents))], key=lambda s: s.order)


def check(asked: Asked, budget: Budget | None) -> dict[str, Any]:
    """The tool's own answers to what is known."""
    return {"known": [asdict(k) for k in known_answers()]}


def speed(asked: Asked, budget: Budget | None) -> dict[str, Any]:
    """How fast the network is here."""
    return speed_of(asked.net, asked.split, asked.table).to_dict()


def _need(asked: Asked, budget: Budget) -> dict[str, Any]:
    collapse = asked.is_classifier and asked.reach == "from"
    chosen = budget.need(len(asked.split), collapse=collapse, reach=asked.reach)
    methods = (*METHODS, *(("gap_fc",) if collapse else ()))
    judged: dict[str, Any] = {"within": asked.study.within, "score": asked.study.score, "seed": asked.study.seed}
    if isinstance(asked.split, Split):
        chosen["batch_size"] = budget.batch(chosen["limit"])
    found = asked.run(need.Curve(**asked.options(), **chosen, **judged, methods=methods), NEED)
    return {**found, "asked": which(asked.split, chosen["limit"])}


def _patches(asked: Asked, budget: Budget) -> dict[str, Any]:
    if not isinstance(asked.split, Split):
        raise InputError(
            "patches of a picture are shuffled for classifiers alone: a map, and boxes, are answers with places."
        )
    height, width = asked.split.shape(asked.net.preprocessing)[1:]
    grids = [g for g in GRIDS if height % g == 0 and width % g == 0]
    chosen = budget.patches(len(asked.split), grids)
    judged: dict[str, Any] = {"within": asked.study.within, "score": asked.study.score, "seed": asked.study.seed}
    found = asked.run(need.Patches(**asked.options(), **chosen, **judged), PATCHES)
    return {**found, "asked": which(asked.split, chosen["limit"])}


def which(split: AnySplit, n: int) -> dict[str, list[int]]:
    """Which pictures are asked, in order, and which belong together: two audits are compared picture by picture.

    Args:
        split: all test pictures.
        n: how many of them are taken, as `limited` takes them.

    Returns:
        `rows`, numbers in the split, unless they have none (a loader's); `groups` where pictures belong together.
    """
    few = split.take(n)
    source = few.source if isinstance(few, Split) else few.pictures
    groups = groups_of(few.groups)
    rows = list(range(len(few))) if few is split else source.rows if isinstance(source, Rows) else []
    return {"rows": rows, **({} if groups is None else {"groups": groups.tolist()})}


def _hold(asked: Asked, budget: Budget) -> dict[str, Any]:
    chosen = budget.hold(_pictures(asked), READ_SIZE)
    how: dict[str, Any] = {"targets": TARGETS, "kernels": (1,), "untrained": 2, "blanks": (), "seed": asked.study.seed}
    given = {**asked.options(), **({} if asked.pictures is asked.study.data_source.given else asked.held())}
    return asked.run(hold.Readout(**given, **chosen, **how, paddings=_circular(asked.net)), HOLD)


def _pictures(asked: Asked) -> int:
    """That a read-out may take: of all splits."""
    return sum(len(split) for split in asked.study.data_source.given.splits.values())


def _circular(net: Network) -> tuple[str, ...]:
    try:
        hold.with_padding(net, "circular")
    except InputError:
        return ()
    return ("circular",)


def _fields(asked: Asked, budget: Budget) -> dict[str, Any]:
    chosen = budget.fields(len(asked.split))
    found = receptive_fields(asked.net, asked.pictures, chosen["sites"], pictures=chosen["pictures"], batch_size=4)
    return {"size": list(found.size), "pictures": found.pictures, "fields": [asdict(f) for f in found.fields]}


def _use(asked: Asked, budget: Budget) -> dict[str, Any]:
    plain = cost(asked.net, batch=4, seconds=0.3)
    rows = [{"method": "none", "places": 0, **plain.to_dict()}]
    for method in GATES:
        gated = use.recalibrate(asked.net, method)
        report = gated.module.__dict__["surgery"]
        rows.append({"method": method, "places": len(report.inserted), **cost(gated, batch=4, seconds=0.3).to_dict()})
    return {"rows": rows, **(_trained_gates(asked) if asked.study.train else {})}


def _trained_gates(asked: Asked) -> dict[str, Any]:
    """The network anew, with each gate."""
    study = asked.study
    if not isinstance(study.model, str):
        return {"notes": [NOT_ANEW]}
    options: dict[str, Any] = {"width": study.width, "epochs": study.epochs, "seeds": SEEDS, "data": study.data}
    try:
        return {"trained": asked.run(use.Compare(study.model, methods=("none", *GATES), **options), USE)}
    except InputError as error:  # what gates cost is known all the same
        return {"notes": [f"Gates were not trained: {error}"]}


def _say(asked: Asked, budget: Budget) -> dict[str, Any]:
    if not isinstance(asked.split, SceneSplit):
        raise InputError(NO_CONCEPTS)
    site = next(filter(None, (_speaks(asked, s) for s in reversed(asked.places))), None)
    if site is None:
        raise InputError("a bottleneck fits nowhere: something goes past each place that was asked.")
    study = asked.study
    if not study.train:
        raise InputError(say_command(study, site))
    given: dict[str, Any] = {"data": study.data, "sites": (site,), "seeds": SEEDS[:1]}
    given |= {} if study.epochs is None else {"epochs": study.epochs}
    return {"trained": asked.run(say.Compare(asked.net, **given), SAY)}


def say_command(study: Audit, site: str) -> str:
    """Why nothing is trained, and the command that does, which takes no library's weights: these are saved first."""
    words = words_of(study, SAY_OPTIONS)
    if study.pretrained:
        words[:2] = ["--model", "net"]
        saved = SAVE_FIRST.format(model=study.model)
    return SAY_TAKES.format(saved=saved if study.pretrained else "", words=" ".join(words), site=site)


def _failures(asked: Asked, budget: Budget) -> dict[str, Any]:
    site = _telling(asked)
    alone = asked.reach != "from"
    words = f"at {site}" if alone else f"from {site} on"
    seen = Shuffled(asked.net, site if alone else f"{site}:", words, asked.study.seed)
    return failures(seen, asked.split, budget.failures(len(asked.split)))


def _telling(asked: Asked) -> str:
    """Where shuffling costs something for the first time, counted from the answer; else the place in the middle."""
    done = asked.how.folder / NEED / "result.json"
    points = NeedResult.from_dict(read_json(done)).points if done.is_file() else ()
    lost = [p for p in points if p.method == METHODS[0] and p.drop and p.drop.low > 0]
    if lost:
        return min(lost, key=lambda p: p.depth_share).site
    if not asked.places:
        raise InputError("there is no place to shuffle.")
    return asked.places[len(asked.places) // 2].name


def _speaks(asked: Asked, site: Site) -> str:
    """The name of a place that a bottleneck can go behind; "" of another."""
    try:
        say.bottleneck(asked.net, site.name, 2, input_size=asked.table.input_size)
    except InputError:
        return ""
    return site.name


OPTIONS = ("model", "data", "weights", "width", "classes")
SAY_OPTIONS = OPTIONS[:-1]  # that say compare takes
JUDGED = ("score", "within", "seed")  # options that decide what an audit measures


def words_of(study: Audit, options: Sequence[str] = (*OPTIONS, "pretrained")) -> list[str]:
    """The network and the pictures as a command takes them; as far as they were given by name."""
    words = []
    for name in OPTIONS:
        if name not in options:
            continue
        value = getattr(study, name)
        if value is not None and value != 1.0:
            words += [f"--{name}", str(value) if isinstance(value, str | int | float | os.PathLike) else name.upper()]
    return [*words, *(["--pretrained", "true"] if study.pretrained and "pretrained" in options else [])]


def judged_words(study: Audit) -> list[str]:
    """What is measured, as the audit's command takes it, where it is not the usual."""
    usual = {f.name: f.default for f in fields(study)}
    given = {name: getattr(study, name) for name in JUDGED}
    return [w for name, value in given.items() if value != usual[name] for w in (f"--{name}", str(value))]


Part = Callable[[Asked, Any], dict[str, Any]]
ASK: Mapping[str, Part] = {
    CHECK: check,
    SPEED: speed,
    NEED: _need,
    PATCHES: _patches,
    HOLD: _hold,
    FIELDS: _fields,
    USE: _use,
    SAY: _say,
    FAILURES: _failures,
}


def budget_of(asked: Asked, measured: Mapping[str, Any]) -> Budget:
    """The seconds that there are for the parts, and where they can be asked."""
    return Budget(Speed(**measured), 60 * asked.study.minutes, asked.table, asked.places)
