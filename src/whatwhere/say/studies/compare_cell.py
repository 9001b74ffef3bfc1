"""What one cell does: make a kind of bottleneck at a site, fine-tune what follows, and measure it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whatwhere.data.scenes import Scenes
from whatwhere.errors import InputError
from whatwhere.files import write_json
from whatwhere.lab.cells import Cell
from whatwhere.lab.packed import pack, pack_scores
from whatwhere.lab.progress import Meter
from whatwhere.lab.sources import GivenData, GivenNetwork
from whatwhere.lab.study import Worker
from whatwhere.models.weights import load_weights, save_weights
from whatwhere.network import Network
from whatwhere.say import leakage
from whatwhere.say.concept_counts import concept_counts
from whatwhere.say.failures import FailureCounts, nearby
from whatwhere.say.heads import maps_at
from whatwhere.say.layer import Bottleneck, layer_of
from whatwhere.say.studies.broden_concepts import BrodenConcepts
from whatwhere.say.studies.broden_places import BrodenSite
from whatwhere.say.studies.concept_spec import BRODEN, concepts_of
from whatwhere.say.studies.features import FEATURES, SiteFeatures, TrueMaps, site_features
from whatwhere.say.studies.halves import apart
from whatwhere.say.studies.inspection import Kept, in_broden, in_scenes
from whatwhere.say.studies.kinds import CEILING, PLAIN, SUPERVISED, Make, Size, cooled, fitted, placed
from whatwhere.say.studies.measure import Cells, EditRows, cell_labels, cells, confusions, table_ceiling
from whatwhere.say.studies.sure import confidence
from whatwhere.say.tail import Tail
from whatwhere.surgery import copied
from whatwhere.training.fit import fit
from whatwhere.training.recipes import SceneRecipe

SURE = ("intact", "tuned", "ssb", "learned")  # kinds whose confidence is compared
FEW = 60  # pictures on which every concept is dropped in turn


@dataclass(frozen=True)
class CompareWorker(Worker):
    """Makes, fine-tunes and measures the bottleneck of a cell.

    Attributes:
        network: where the trained segmentation network is.
        source: where the scenes are.
        folder: gets features, checkpoints and trained weights.
        device: Fabric's accelerator.
        broden: folder of Broden+, where the concepts are its own.
    """

    network: GivenNetwork
    source: GivenData
    folder: Path
    device: str = "auto"
    broden: str | None = None

    def __call__(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Run one cell."""
        return ceiling(self, config) if config["kind"] == CEILING else _Run(self, config).result()

    def __reduce__(self) -> tuple[Any, ...]:
        """Without what was loaded."""
        return (CompareWorker, (self.network, self.source, self.folder, self.device, self.broden))

    @property
    def net(self) -> Network:
        """The trained network; nothing changes it."""
        return self.network.net

    @cached_property
    def scenes(self) -> Scenes:
        """With the splits train, validation and test."""
        return apart(self.source.scenes)

    @cached_property
    def size(self) -> Size:
        """(C, H, W) of a picture."""
        channels, height, width = self.scenes.train[0][0].shape
        return channels, height, width

    @cached_property
    def noise(self) -> dict[str, Kept]:
        """What channels of noise reach at each site, by width: the same for every kind."""
        return {}

    def prepare(self, common: Mapping[str, Any], sites: Sequence[str]) -> None:
        """Compute the features of every site once, before cells that run side by side would each."""
        for site in sites:
            config = {**common, "site": site}
            for split in ("train", "validation", "test"):
                self.held(config, split)
            if labelled := self.broden_site(config):
                _ = labelled.heads, labelled.about

    def weights(self, cell: Cell) -> Path:
        """Where a cell's network is."""
        return self.folder / "weights" / f"{cell.key}.safetensors"

    def checkpoint(self, cell: Cell) -> Path:
        """Where a cell's fine-tuning stands, until its result is stored."""
        return self.folder / "checkpoints" / f"{cell.key}.pt"

    def stored(self, cell: Cell) -> None:
        """A cell whose result is stored needs no checkpoint."""
        self.checkpoint(cell).unlink(missing_ok=True)

    def broden_concepts(self, spec: Mapping[str, Any]) -> BrodenConcepts | None:
        """The concepts of Broden+, if these are what a spec names."""
        return BrodenConcepts(spec, self.folder / FEATURES, self.broden) if spec.get(BRODEN) else None

    def broden_site(self, config: Mapping[str, Any]) -> BrodenSite | None:
        """The cell's site, run on pictures of Broden+, if the concepts are labelled there."""
        concepts = self.broden_concepts(config["concepts"])
        return BrodenSite(self.net, config["site"], self.size[1:], concepts) if concepts else None

    def names(self, spec: Mapping[str, Any]) -> tuple[str, ...]:
        """The concepts' names."""
        concepts = self.broden_concepts(spec)
        return concepts.names if concepts else concepts_of(spec, self.scenes).names

    def held(self, config: Mapping[str, Any], split: str) -> SiteFeatures:
        """What the trained network holds at the cell's site."""
        spec = config["concepts"]
        source = None if spec.get(BRODEN) else concepts_of(spec, self.scenes)
        return site_features(self.net, config["site"], getattr(self.scenes, split), source, spec, self.folder)

    def features(self, config: Mapping[str, Any], split: str) -> SiteFeatures:
        """What the cell learns from: features, or of `truth` the labels' concept maps."""
        held = self.held(config, split)
        return TrueMaps.of(held) if config["kind"] == "truth" else held

    def rebuilt(self, cell: Cell, names: Sequence[str]) -> nn.Module:
        """A finished cell's network, with its weights.

        Args:
            cell: finished.
            names: of its concepts, as its result says.

        Raises:
            InputError: if the weights are gone.
        """
        file = self.weights(cell)
        if not file.is_file():
            raise InputError(
                f"{file} is missing: the network was not kept. If it was moved, give weights_folder; else delete "
                f"cells/{cell.key}.json, and `whatwhere say compare` with the same options trains it again."
            )
        made = _Run(self, cell.config, tuple(names)).placed
        load_weights(made, file)
        return made.eval()


@dataclass(frozen=True)
class _Run:
    bench: CompareWorker
    config: Mapping[str, Any]
    given: tuple[str, ...] = ()  # names of the concepts, where they are known

    @property
    def kind(self) -> str:
        return str(self.config["kind"])

    @cached_property
    def train(self) -> SiteFeatures:
        return self.bench.features(self.config, "train")

    @cached_property
    def test(self) -> SiteFeatures:
        return self.bench.features(self.config, "test")

    @cached_property
    def labelled(self) -> BrodenSite | None:
        return self.bench.broden_site(self.config)

    @cached_property
    def make(self) -> Make:
        names = self.given or self.bench.names(self.config["concepts"])
        return Make(self.config["site"], names, self.config["group"], self.config["seed"])

    @cached_property
    def placed(self) -> nn.Module:
        """The network with its bottleneck, before it is fitted."""
        module = copied(self.bench.net.module).cpu().eval()
        if self.kind in PLAIN:
            return module
        channels = int(self.bench.held(self.config, "train").features.shape[1])
        return placed(module, self.kind, self.make, self.bench.size, channels)

    @cached_property
    def made(self) -> nn.Module:
        """The network with its bottleneck, before it is fine-tuned."""
        if self.kind not in PLAIN:
            labelled = self.labelled
            heads = (lambda: labelled.heads) if labelled else None
            fitted(layer_of(self.placed), self.kind, self.make, self.bench.held(self.config, "train"), heads)
        return self.placed

    @cached_property
    def layer(self) -> Bottleneck | None:
        return None if self.kind in PLAIN else layer_of(self.made)

    @cached_property
    def tail(self) -> Tail:
        inner = {"intact": "", "tuned": "", "truth": ".bottleneck.encode"}.get(self.kind, ".site")
        return Tail(self.made, self.config["site"] + inner, torch.zeros(1, *self.bench.size))

    def result(self) -> dict[str, Any]:
        history = [] if self.kind == "intact" else self._tuned()
        test, counted = cells(self.tail, self.test, self._speaking)
        return {
            "channels": self.layer.encode.out_channels if self.layer else int(self.test.features.shape[1]),
            "names": list(self.layer.names) if self.layer else [],
            "confusions": pack_scores(counted.flatten().numpy()),
            "n": len(counted),
            "epochs": history,
            "groups": self.test.split.groups.tolist(),
            **self._looked_into(test),
        }

    @property
    def _speaking(self) -> Bottleneck | None:
        return None if self.kind == "truth" else self.layer  # its maps are what the features hold already

    def _tuned(self) -> list[dict[str, float]]:
        """Fine-tune what follows; on the features, so that nothing before the site runs."""
        recipe = SceneRecipe(**self.config["recipe"])
        cell = Cell(self.config)
        steps = recipe.epochs * (len(self.train) // recipe.batch_size)
        with Meter(f"{self.kind} at {self.config['site']}, seed {self.config['seed']}", steps) as meter:

            def on_step(done: int, total: int) -> None:
                if self.kind == "usb" and self.layer:
                    cooled(self.layer, done, total)
                meter.update(done)

            history = fit(
                Network(self.tail),
                self.train,
                recipe,
                seed=self.config["seed"],
                device=self.bench.device,
                file=self.bench.checkpoint(cell),
                on_step=on_step,
            )
        if self.kind == "usb" and self.layer:
            cooled(self.layer, 1, 1)
        self.made.cpu()
        save_weights(self.made, self.bench.weights(cell))
        write_json(self.bench.weights(cell).with_suffix(".json"), dict(self.config))
        return history.epochs

    def _looked_into(self, test: Cells) -> dict[str, Any]:
        if self.kind == "truth":
            return {}
        held = self.bench.features(self.config, "validation")
        validation, _ = cells(self.tail, held, self._speaking)
        groups = (held.split.groups, self.test.split.groups)
        names = self.layer.names if self.layer else ()
        found = {"confidence": _plain(confidence(validation, test, groups, tuple(names)))} if self.kind in SURE else {}
        if self.kind != "tuned" and (seen := self._inspected((held, validation), test)):
            found["inspection"] = seen
        if self.kind == "ssb" and self.layer:
            found |= {"failures": self._failures(test), "said": pack(test.said.flatten().numpy())}
            found |= {"leakage": self._leaking(test), "shape": list(test.said.shape)}
        if self.kind in SUPERVISED and self.labelled:
            concepts = self.labelled.concepts
            found["heads"] = {**self.labelled.about, "left out": concepts.left_out}
            found["counts"] = concepts.chosen_counts
        return found

    def _inspected(self, validation: tuple[SiteFeatures, Cells], test: Cells) -> dict[str, Any] | None:
        """Where the concepts are labelled: in the scenes, or in pictures of Broden+."""
        named = self.kind in SUPERVISED
        kept = self.bench.noise.setdefault(self.config["site"], {})
        if self.labelled is None:
            return in_scenes(validation, (self.test, test), named=named, kept=kept)
        calibration, held = (self.labelled.places(part) for part in ("calibration", "validation"))
        return in_broden(self._channels, calibration, held, named=named, kept=kept)

    def _channels(self, features: Tensor) -> Tensor:
        """(P, C) to concept maps (P, K), or without a bottleneck as they are."""
        return maps_at(self.layer, features) if self.layer else features

    def _failures(self, test: Cells) -> list[dict[str, Any]]:
        counts = FailureCounts(test.scores.shape[1], test.concepts.shape[1])
        given = None
        if self.test.labelled:  # labelled, if anything near is
            given = nearby(self.test.concepts_at(torch.arange(len(self.test))).float())
        counts.update(nearby(test.concepts), test.said, test.labels, given)
        return [_plain(asdict(f)) for f in counts.ranked()]

    def _leaking(self, test: Cells) -> dict[str, Any]:
        """Confusions, added up, with the maps overwritten: nothing is trained again."""
        k, classes = test.concepts.shape[1], test.scores.shape[1]
        means = test.concepts.mean((0, 2, 3))
        order = torch.randperm(k, generator=torch.Generator().manual_seed(self.config["seed"]))
        few = torch.arange(len(self.test))[:: max(1, len(self.test) // FEW)][:FEW]

        def total(edit: EditRows, rows: Tensor | None = None) -> list[list[int]]:
            counted = confusions(self.tail, self.test, classes, edit=edit, rows=rows)
            return [[int(v) for v in row] for row in counted.sum(0)]

        return {
            "binarised": total(lambda maps, _: leakage.binarised(maps)),
            "permuted": total(lambda maps, _: leakage.permuted(maps, order)),
            **({"oracle": total(self._corrected)} if self.test.labelled else {}),
            "few": total(lambda maps, _: maps, few),
            "few n": len(few),
            "dropped": [total(_dropping(i, float(means[i])), few) for i in range(k)],
        }

    def _corrected(self, maps: Tensor, rows: Tensor) -> Tensor:
        """The labels' concepts, where there are labels."""
        given = self.test.shares_at(rows).to(maps)
        return torch.where(given >= 0, given, maps)


def _dropping(k: int, value: float) -> EditRows:
    return lambda maps, _: leakage.dropped(maps, k, value)


def ceiling(bench: CompareWorker, config: Mapping[str, Any]) -> dict[str, Any]:
    """What the labels' concepts of a place allow, if they say the class by a table; and how often they occur."""
    train, test = (bench.features(config, split) for split in ("train", "test"))
    classes = len(bench.scenes.classes)
    pairs = [(np.asarray(held.targets), cell_labels(held)) for held in (train, test)]
    counted = table_ceiling(pairs[0], pairs[1], classes)
    source = concepts_of(config["concepts"], bench.scenes)
    counts = concept_counts(source, bench.scenes.train.rows(), bench.scenes.classes)
    return {
        "confusions": pack_scores(counted.flatten().numpy()),
        "n": len(counted),
        "groups": test.split.groups.tolist(),
        "counts": [_plain(c) for c in counts.table()],
    }


def finite(value: float) -> float | None:
    """A number as JSON holds it: None for what is not a number."""
    return round(value, 6) if math.isfinite(value) else None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return finite(value) if isinstance(value, float) else value
