"""What one cell does: make a kind of bottleneck at a site, fine-tune what follows, and measure it."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whatwhere.bottleneck import leakage
from whatwhere.bottleneck.failures import FailureCounts, nearby
from whatwhere.bottleneck.inspect import Overlap, auic, inspectability_curve, thresholds_of
from whatwhere.bottleneck.layer import Bottleneck, layer_of
from whatwhere.bottleneck.tail import Tail
from whatwhere.data.concept_counts import concept_counts
from whatwhere.data.concept_spec import concepts_of
from whatwhere.data.scenes import Scenes
from whatwhere.files import write_json
from whatwhere.models.load import load_weights, save_weights
from whatwhere.network import Network
from whatwhere.runs.cells import Cell
from whatwhere.runs.progress import Meter
from whatwhere.studies.bottleneck.features import SiteFeatures, TrueMaps, site_features
from whatwhere.studies.bottleneck.kinds import CEILING, PLAIN, Plan, cooled, narrowed
from whatwhere.studies.bottleneck.measure import Cells, cell_labels, cells, confusions, table_ceiling
from whatwhere.studies.bottleneck.sure import confidence
from whatwhere.studies.packed import pack, pack_scores
from whatwhere.training.fit import fit
from whatwhere.training.recipes import SceneRecipe

SHARES = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005)
SURE = ("intact", "tuned", "ssb", "learned")  # kinds whose confidence is compared
FEW = 60  # pictures on which every concept is dropped in turn


@dataclass(frozen=True)
class Bench:
    """What a cell needs that does not decide its result.

    Attributes:
        net: the trained segmentation network.
        scenes: with train, validation and test split.
        folder: features, checkpoints and trained weights.
        device: Fabric's accelerator.
    """

    net: Network
    scenes: Scenes
    folder: Path
    device: str = "auto"

    def __call__(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Run one cell."""
        return ceiling(self, config) if config["kind"] == CEILING else _Run(self, config).result()

    def prepare(self, shared: Mapping[str, Any], sites: Sequence[str]) -> None:
        """Compute the features of every site once, before cells that run side by side would each."""
        for site in sites:
            for split in ("train", "validation", "test"):
                self.held({**shared, "site": site}, split)

    def weights(self, cell: Cell) -> Path:
        """Where a cell's network is."""
        return self.folder / "weights" / f"{cell.key}.safetensors"

    def held(self, config: Mapping[str, Any], split: str) -> SiteFeatures:
        """What the trained network holds at the cell's site."""
        spec = config["concepts"]
        source = concepts_of(spec, self.scenes)
        return site_features(self.net, config["site"], getattr(self.scenes, split), source, spec, self.folder)

    def features(self, config: Mapping[str, Any], split: str) -> SiteFeatures:
        """What the cell learns from: features, or of `truth` the labels' concept maps."""
        held = self.held(config, split)
        return TrueMaps.of(held) if config["kind"] == "truth" else held

    def rebuilt(self, cell: Cell) -> nn.Module:
        """A finished cell's network, with its weights."""
        made = _Run(self, cell.config).made
        load_weights(made, self.weights(cell))
        return made.eval()


@dataclass(frozen=True)
class _Run:
    bench: Bench
    config: Mapping[str, Any]

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
    def size(self) -> tuple[int, int, int]:
        channels, height, width = self.train.split[0][0].shape
        return channels, height, width

    @cached_property
    def made(self) -> nn.Module:
        """The network with its bottleneck, before it is fine-tuned."""
        module = copy.deepcopy(self.bench.net.module).cpu().eval()
        if self.kind in PLAIN:
            return module
        names = concepts_of(self.config["concepts"], self.bench.scenes).names
        plan = Plan(self.config["site"], names, self.config["group"], self.config["seed"])
        return narrowed(module, self.kind, plan, self.size, self.bench.held(self.config, "train"))

    @cached_property
    def layer(self) -> Bottleneck | None:
        return None if self.kind in PLAIN else layer_of(self.made)

    @cached_property
    def tail(self) -> Tail:
        inner = {"intact": "", "tuned": "", "truth": ".bottleneck.encode"}.get(self.kind, ".site")
        return Tail(self.made, self.config["site"] + inner, torch.zeros(1, *self.size))

    def result(self) -> dict[str, Any]:
        history = [] if self.kind == "intact" else self._tuned()
        test, counted = cells(self.tail, self.test, self._speaking)
        return {
            "channels": self.layer.encode.out_channels if self.layer else int(self.test.features.shape[1]),
            "names": list(self.layer.names) if self.layer else [],
            "confusions": pack_scores(counted.flatten().numpy()), "n": len(counted), "epochs": history,
            "groups": self.test.split.groups.tolist(),
            **self._looked_into(test),
        }  # fmt: skip

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

            checkpoint = self.bench.folder / "checkpoints" / f"{cell.key}.pt"
            history = fit(
                Network(self.tail), self.train, recipe, seed=self.config["seed"], device=self.bench.device,
                file=checkpoint, on_step=on_step,
            )  # fmt: skip
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
        if self.kind != "tuned":
            found["inspection"] = self._inspected(held, validation, test)
        if self.kind == "ssb" and self.layer:
            found |= {"failures": self._failures(test), "said": pack(test.said.flatten().numpy())}
            found |= {"leakage": self._leaking(test), "shape": list(test.said.shape)}
        return found

    def _inspected(self, held: SiteFeatures, validation: Cells, test: Cells) -> dict[str, Any]:
        """Chosen on the validation pictures, scored on the test pictures."""
        counts, limits = [], None
        for features, seen in ((held, validation), (self.test, test)):
            rows = torch.arange(len(features))
            if limits is None:
                every = rows[:: max(1, len(rows) // 40)]
                limits = thresholds_of(_activations(features, seen, every), SHARES)
            overlap = Overlap(len(limits), features.targets.shape[1], limits)
            for part in rows.split(8):
                overlap.update(_activations(features, seen, part), features.concepts_at(part))
            counts.append(overlap)
        fit_half, test_half = counts
        iou = test_half.matched(fit_half.best())
        xi, share = inspectability_curve(iou)
        own = test_half.score(fit_half.best()).diagonal().tolist() if self.kind.startswith("ssb") else []
        return {
            "auic": auic(iou), "iou": [round(v, 4) for v in iou.tolist()], "own": own,
            "concept": fit_half.best().concept.tolist(), "always on": test_half.always_on().tolist(),
            "curve": [share.tolist()[i] for i in range(len(xi))],
        }  # fmt: skip

    def _failures(self, test: Cells) -> list[dict[str, Any]]:
        assert test.maps is not None
        counts = FailureCounts(test.scores.shape[1], test.maps.shape[1])
        given = nearby(self.test.concepts_at(torch.arange(len(self.test))).float())  # labelled, if anything near is
        counts.update(nearby(test.maps), test.said, test.labels, given)
        return [_plain(asdict(f)) for f in counts.ranked()]

    def _leaking(self, test: Cells) -> dict[str, Any]:
        """Confusions, added up, with the maps overwritten: nothing is trained again."""
        assert test.maps is not None
        k, classes = test.maps.shape[1], test.scores.shape[1]
        means = test.maps.mean((0, 2, 3))
        order = torch.randperm(k, generator=torch.Generator().manual_seed(self.config["seed"]))
        few = torch.arange(len(self.test))[:: max(1, len(self.test) // FEW)][:FEW]

        def total(edit: Any, rows: Tensor | None = None) -> list[list[int]]:
            counted = confusions(self.tail, self.test, classes, edit=edit, rows=rows)
            return [[int(v) for v in row] for row in counted.sum(0)]

        return {
            "binarised": total(lambda maps, _: leakage.binarised(maps)),
            "permuted": total(lambda maps, _: leakage.permuted(maps, order)),
            "oracle": total(self._corrected),
            "few": total(lambda maps, _: maps, few), "few n": len(few),
            "dropped": [total(lambda maps, _, i=i: leakage.dropped(maps, i, float(means[i])), few) for i in range(k)],
        }  # fmt: skip

    def _corrected(self, maps: Tensor, rows: Tensor) -> Tensor:
        """The labels' concepts, where there are labels."""
        given = self.test.shares_at(rows).to(maps)
        return torch.where(given >= 0, given, maps)


def ceiling(bench: Bench, config: Mapping[str, Any]) -> dict[str, Any]:
    """What the labels' concepts of a place allow, if they say the class by a table; and how often they occur."""
    train, test = (bench.features(config, split) for split in ("train", "test"))
    classes = len(bench.scenes.classes)
    pairs = [(np.asarray(held.targets), cell_labels(held)) for held in (train, test)]
    counted = table_ceiling(pairs[0], pairs[1], classes)
    source = concepts_of(config["concepts"], bench.scenes)
    counts = concept_counts(source, bench.scenes.train.rows(), bench.scenes.classes)
    return {
        "confusions": pack_scores(counted.flatten().numpy()), "n": len(counted),
        "groups": test.split.groups.tolist(), "counts": [_plain(c) for c in counts.table()],
    }  # fmt: skip


def finite(value: float) -> float | None:
    """A number as JSON holds it: None for what is not a number."""
    return round(value, 6) if math.isfinite(value) else None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return finite(value) if isinstance(value, float) else value


def _activations(held: SiteFeatures, seen: Cells, rows: Tensor) -> Tensor:
    """Concept maps, or without a bottleneck the features."""
    return held.at(rows) if seen.maps is None else seen.maps[rows]
