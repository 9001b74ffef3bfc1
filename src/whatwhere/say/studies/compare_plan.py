"""The comparison's cells: a kind of bottleneck at a site, and the ceiling of the concepts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

from whatwhere.data.scenes import Scenes
from whatwhere.errors import InputError
from whatwhere.fingerprints import architecture
from whatwhere.lab.cells import Cell, Store
from whatwhere.lab.options import as_tuple
from whatwhere.lab.rows import checked_seeds
from whatwhere.lab.study import Finished, Plan, Run
from whatwhere.models.weights import random_weights
from whatwhere.network import Network, check_finite
from whatwhere.say.concepts import copies_of_classes
from whatwhere.say.insert import bottleneck
from whatwhere.say.studies.broden_concepts import settled_broden
from whatwhere.say.studies.compare import Compare
from whatwhere.say.studies.compare_cell import CompareWorker
from whatwhere.say.studies.compare_result import SayResult
from whatwhere.say.studies.concept_spec import BRODEN, concepts_of, notes_of, plain_spec, settled, usual_concepts
from whatwhere.say.studies.features import weights_fingerprint
from whatwhere.say.studies.fold import folded
from whatwhere.say.studies.halves import apart
from whatwhere.say.studies.kinds import CEILING, checked_kinds, checked_width
from whatwhere.say.studies.labelled import check_classes, left_out_note, never_both

TRUTH, FIXED = "truth", ("intact", CEILING)  # kinds without draws


class ComparePlan(Plan[Compare, SayResult]):
    """A cell is one network: a kind, a site and a seed; one more is the ceiling."""

    keeps_weights: ClassVar[bool] = True

    @cached_property
    def scenes(self) -> Scenes:
        """With the splits train, validation and test."""
        scenes = checked_scenes(apart(self.study.scene_source.scenes))
        check_classes(scenes.train, scenes.test, scenes.validation)
        return scenes

    @cached_property
    def net(self) -> Network:
        """The network, for pictures of the scenes' size; the user's is left alone."""
        channels, height, width = self.scenes.test[0][0].shape
        return replace(self.study.network_source.net, input_size=(channels, height, width))

    @cached_property
    def given(self) -> dict[str, Any]:
        """The concepts as the user gave them."""
        concepts = self.study.concepts
        return usual_concepts(self.scenes) if concepts is None else plain_spec(concepts)

    @cached_property
    def concepts(self) -> tuple[dict[str, Any], str | None]:
        """The concepts as they are recorded, and the folder of Broden+ if they are its own.

        Raises:
            InputError: for concepts that cannot be made, or copy a class of the task.
        """
        if self.given.get(BRODEN):
            return settled_broden(self.given)
        spec = settled(self.given, self.scenes)
        if self.left_out:
            spec = {**spec, "only": [n for n in concepts_of(spec, self.scenes).names if n not in self.left_out]}
            if not spec["only"]:
                raise InputError(f"concepts: none is usable. {' '.join(left_out_note(self.left_out))}")
        copies = copies_of_classes(concepts_of(spec, self.scenes), self.scenes.classes)
        if copies:
            text = ", ".join(f"{concept!r} is {of!r}" for concept, of in copies.items())
            raise InputError(f"concepts: {text} of the task, and a network that names its classes explains nothing.")
        return spec, None

    @cached_property
    def left_out(self) -> dict[str, str]:
        """Concepts that the training pictures show nowhere, or everywhere; no head can be fitted for them."""
        if self.given.get(BRODEN):
            return {}
        return never_both(concepts_of(settled(self.given, self.scenes), self.scenes), self.scenes.train)

    @cached_property
    def common(self) -> dict[str, Any]:
        """What the configurations of all cells hold."""
        if self.study.group < 2:
            raise InputError(f"group={self.study.group}: a softmax group has at least 2 maps.")
        return {
            "network": {"name": self.net.name, "weights": weights_fingerprint(self.net.module)},
            "preprocessing": self.net.preprocessing.to_dict(),
            "data": self.scenes.describe()["fingerprints"],
            "concepts": self.concepts[0],
            "recipe": self.study.recipe.to_dict(),
            "group": self.study.group,
        }

    def shared(self) -> Mapping[str, Any]:
        """The network, its layers, the scenes, the concepts, and how what follows is tuned."""
        return {**self.common, "layers": architecture(self.net.module)}

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds, `intact` first; `truth` only where the scenes have labels of the concepts."""
        kinds = checked_kinds(as_tuple(self.study.kinds))
        return tuple(k for k in kinds if k != TRUTH) if self.given.get(BRODEN) else kinds

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites, each once.

        Raises:
            InputError: if there are none.
        """
        if not self.study.sites:
            raise InputError("sites is empty; give at least one module's name, such as backbone.layer4.")
        return as_tuple(self.study.sites)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, each once."""
        return checked_seeds(as_tuple(self.study.seeds))

    def cell(self, site: str, kind: str, seed: int) -> Cell:
        """One cell; kinds without draws have the seed 0 only."""
        fixed = kind in FIXED
        config = {**self.common, "site": site, "kind": kind, "seed": 0 if fixed else seed}
        return Cell(config, f"{kind} at {site}" + ("" if fixed else f", seed {seed}"))

    def cells(self, done: Finished) -> Iterable[Cell]:
        """The ceiling, and every kind at every site for every seed."""
        seeds, top = self.seeds, [] if self.given.get(BRODEN) else [(self.sites[0], CEILING, 0)]
        wanted = [*top, *((site, kind, seed) for seed in seeds for site in self.sites for kind in self.kinds)]
        return list({c.key: c for c in (self.cell(*each) for each in wanted)}.values())

    def check(self, how: Run) -> None:
        """Sites that no bottleneck fits behind are refused, more concepts than channels, and what cannot be trained."""
        _ = self.seeds, self.kinds
        check_finite(self.net)
        if self.study.recipe.batch_size > (n := len(self.scenes.train)):
            raise InputError(f"batch_size={self.study.batch_size} is more than the {n} training pictures; give fewer.")
        for site in self.sites:  # a name that is wrong is found before concepts are counted
            self._channels(site)
        names = self.bench(how).names(self.common["concepts"])
        for site in self.sites:
            checked_width(site, self._channels(site), len(names), self.study.group if "usb" in self.kinds else 0)

    def warnings(self) -> Iterable[str]:
        """Those of every study, and which concepts are left out."""
        return [*super().warnings(), *left_out_note(self.left_out)]

    def _channels(self, site: str) -> int:
        try:
            made: Any = bottleneck(self.net.module, site, 1, input_size=self.net.input_size)
        except InputError as error:
            raise InputError(f"sites: {error}") from error
        channels: int = made.surgery.channels[0]
        return channels

    def bench(self, how: Run) -> CompareWorker:
        """What runs a cell; nothing is computed before."""
        study = self.study
        return CompareWorker(study.network_source, study.scene_source, how.files, how.device, self.concepts[1])

    def worker(self, how: Run) -> CompareWorker:
        """The same, with the features of every site computed once if a cell is missing."""
        bench, store = self.bench(how), Store(how.folder, {"study": self.study.kind, **self.shared()})
        if not all(store.has(c) for c in self.cells(Finished(store))):
            bench.prepare(self.common, self.sites)
        return bench

    def fold(self, done: Finished) -> SayResult:
        """A row for each kind at each site, those of earlier calls included."""
        found = done.by("site", "kind", "seed")
        about = {
            **self.common,
            "sites": ordered(self.sites, (site for site, _, _ in found)),
            "kinds": ordered(self.kinds, (kind for _, kind, _ in found if kind != CEILING)),
            "seeds": ordered(self.seeds, (seed for _, kind, seed in found if kind not in FIXED)),
        }
        about_concepts = [*notes_of(self.given, self.scenes), *left_out_note(self.left_out)]
        notes = [*random_weights(self.net), *about_concepts, *done.notes()]
        return folded(found, self.scenes, about, notes)


def ordered(asked: Iterable[Any], there: Iterable[Any]) -> list[Any]:
    """What was asked for, in its order, then what else is there."""
    return list(dict.fromkeys([*asked, *sorted(set(there))]))


def checked_scenes(scenes: Scenes) -> Scenes:
    """Scenes, if intervals and thresholds can be had of them.

    Raises:
        InputError: for a split of one group.
    """
    for split in (scenes.validation, scenes.test):
        if len(split.groups.unique()) < 2:
            raise InputError(
                f"split {split.name!r} is one group of pictures that belong together; intervals and thresholds need at "
                "least two (some 20 to be of use)."
            )
    return scenes
