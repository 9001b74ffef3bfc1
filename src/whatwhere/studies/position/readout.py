"""The measurement: position read out of a network and of its controls, folded into one result."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from whatwhere.data import Data, load_data
from whatwhere.errors import InputError, unknown
from whatwhere.intervals import Estimate, over_scores, student
from whatwhere.network import Network
from whatwhere.position.features import RGB
from whatwhere.position.official import Official
from whatwhere.position.ridge import output_size
from whatwhere.position.score import best_constant
from whatwhere.position.targets import Range, stack, targets_of
from whatwhere.runs.cells import Cell, Store
from whatwhere.runs.progress import Meter
from whatwhere.runs.provenance import command, fingerprint, hardware, versions
from whatwhere.sites import Selection
from whatwhere.studies.position.conclude import conclude
from whatwhere.studies.position.measure import SHOWN, Plan, measure
from whatwhere.studies.position.pictures import PICTURES, pictures_of
from whatwhere.studies.position.result import SHUFFLED, THUMBNAIL, PositionResult, Row
from whatwhere.studies.position.variants import GIVEN, PADDING, UNTRAINED, Variant, variants_of

READOUTS = ("ridge", "official")
BLANKS = ("black", "white", "noise")
PADDED = ("circular", "reflect", "replicate")
NAMES = ("H", "V", "G", "HS", "VS")


def position(
    net: nn.Module | Network,
    data: Data | str | os.PathLike[str],
    *,
    test: Data | str | os.PathLike[str] | None = None,
    sites: Selection = "levels",
    targets: Sequence[str] | Mapping[str, Any] = NAMES,
    range: Range = "0..1",
    kernels: Sequence[int] = (3,),
    readouts: Sequence[str] = ("ridge",),
    padding: int = 0,
    untrained: int = 2,
    paddings: Sequence[str] | None = None,
    blanks: Sequence[str] = BLANKS,
    input_size: int | None = None,
    pictures: int = 500,
    test_pictures: int = 200,
    size: int = 28,
    official: Official | None = None,
    seed: int = 0,
    batch_size: int = 32,
    out: str | os.PathLike[str] | None = None,
    quiet: bool = False,
) -> PositionResult:
    """How much absolute position the features of a network hold, site by site, beside the controls.

    >>> hold = ww.position(net, "photos/")
    >>> hold.plot(); hold.save("out"); print(hold.conclusion)

    After Islam, Jia and Bruce (ICLR 2020). A read-out (one k x k convolution) predicts a map of position from frozen
    features, brought to 28 x 28. Deviations: the closed-form read-out, our controls, and the network's own input
    normalisation, which the authors' code leaves out.

    Args:
        net: the network; it is never changed.
        data: pictures, with or without labels, to fit on; and to test on if there is no `test`.
        test: other pictures to test on, as the paper does.
        sites: `levels` (the last map of each resolution), `resnet` (layer1 ... layer4), or any selection; all of them
            together and the raw input are read as well.
        targets: H, V, G, HS, VS, or maps of your own by name.
        range: of the named targets.
        kernels: k of the read-outs.
        readouts: `ridge` (closed form), `official` (gradient descent, as published).
        padding: zeros around the features in the read-out; itself a source of position.
        untrained: networks of the same architecture with fresh weights to measure as a control.
        paddings: other paddings of the same network to measure; None is circular, reflect and replicate, as far as
            the network can have them.
        blanks: pictures without content to test on as well: black, white, noise.
        input_size: height and width that pictures get instead of the network's own.
        pictures: at most so many to fit and to choose the penalty.
        test_pictures: at most so many to test.
        size: height and width of the features that are read.
        official: settings of the official read-out.
        seed: of the division of the pictures, of shuffled positions and of the official read-out.
        batch_size: pictures in a forward pass.
        out: folder for finished networks and the result; the same call goes on where it was stopped.
        quiet: print no progress.

    Raises:
        InputError: for unknown names, too few pictures, or a folder that holds another measurement.
    """
    net = _sized(net if isinstance(net, Network) else Network(net), input_size)
    data, test = _loaded(data), None if test is None else _loaded(test)
    _check(readouts, blanks, kernels, size, padding)
    chosen = pictures_of(data, test, pictures, test_pictures, seed)
    goals = tuple(targets_of(targets, range=range))
    plan = Plan(
        chosen, sites, goals, tuple(dict.fromkeys(kernels)), tuple(dict.fromkeys(readouts)), tuple(blanks), padding,
        size, official or Official(), seed, batch_size,
    )  # fmt: skip
    variants = variants_of(untrained, PADDED if paddings is None else paddings)
    identity = _identity(net, plan)
    started = time.perf_counter()
    job = _Job(net, plan, Store(Path(out), identity) if out else None, quiet, strict=paddings is not None)
    cells = job.run(variants)
    rows = tuple(_rows(cells, plan))
    result = PositionResult(
        network=net.name,
        data={"fit": data.describe(), "test": (test or data).describe(), "pictures": chosen.describe()},
        preprocessing=net.preprocessing.to_dict(),
        settings={**identity["plan"], "untrained": untrained, "paddings": [v.mode for v in variants if v.mode]},
        rows=rows,
        gallery=_gallery(cells, plan, net),
        conclusion=conclude(rows),
        notes=tuple(dict.fromkeys([*job.notes, *(n for _, c in cells for n in c["notes"])])),
        provenance={
            "command": command(), "versions": versions(), "hardware": hardware(),
            "seconds": round(time.perf_counter() - started, 1),
        },
    )  # fmt: skip
    if out:
        result.save(out)
    return result


def _sized(net: Network, side: int | None) -> Network:
    if side is None:
        return net
    if side < 1:
        raise InputError(f"input_size={side}: give a height and width in pixels, such as 224.")
    channels = net.input_size[0] if net.input_size else 3
    prep = replace(net.preprocessing, size=(side, side))
    return replace(net, preprocessing=prep, input_size=(channels, side, side))


def _loaded(data: Any) -> Data:
    return data if isinstance(data, Data) else load_data(data)


def _check(readouts: Sequence[str], blanks: Sequence[str], kernels: Sequence[int], size: int, padding: int) -> None:
    for given, known, name in ((readouts, READOUTS, "readouts"), (blanks, BLANKS, "blanks")):
        for value in given:
            if value not in known:
                raise unknown(name, str(value), known)
    if not readouts or not kernels:
        raise InputError("readouts and kernels need at least one value each: readouts=['ridge'], kernels=[3].")
    for kernel in kernels:
        output_size(size, kernel, padding)


def _identity(net: Network, plan: Plan) -> dict[str, Any]:
    p = plan.pictures
    described = {
        "sites": plan.sites if isinstance(plan.sites, str | int | float) else str(plan.sites),
        "targets": {t.name: "own" if t.values is not None else t.range for t in plan.targets},
        "own targets": [t.values.tolist() for t in plan.targets if t.values is not None],
        "kernels": plan.kernels, "readouts": plan.readouts, "blanks": plan.blanks, "padding": plan.padding,
        "size": plan.size, "official": asdict(plan.official), "seed": plan.seed, "batch_size": plan.batch,
    }  # fmt: skip
    return {
        "study": "position", "network": net.name, "weights": fingerprint(net.module),
        "preprocessing": net.preprocessing.to_dict(), "data": [p.fit.fingerprint, p.test.fingerprint],
        "pictures": p.describe(), "plan": described,
    }  # fmt: skip


class _Job:
    def __init__(self, net: Network, plan: Plan, store: Store | None, quiet: bool, *, strict: bool) -> None:
        self.net, self.plan, self.store, self.quiet, self.strict = net, plan, store, quiet, strict
        self.notes: list[str] = []

    def run(self, variants: Sequence[Variant]) -> list[tuple[Variant, dict[str, Any]]]:
        """Measure every network that is not measured yet; each is a cell."""
        done = []
        per = len(self.plan.pictures.rows) + len(self.plan.pictures.held_out)
        with Meter(f"position in {self.net.name}", per * len(variants), quiet=self.quiet) as meter:
            for i, variant in enumerate(variants):
                meter.update(i * per, f"position in {variant.label}")
                result = self._cell(variant, meter)
                if result is not None:
                    done.append((variant, result))
        return done

    def _cell(self, variant: Variant, meter: Meter) -> dict[str, Any] | None:
        cell = Cell(asdict(variant), variant.label)
        if self.store and self.store.has(cell):
            return self.store.load(cell)
        try:
            net = variant.build(self.net)
        except InputError as error:
            if self.strict or variant.kind != PADDING:
                raise
            self.notes.append(f"Padding {variant.mode} is left out: {error}")
            return None
        result = measure(net, self.plan, control=variant.kind == GIVEN, on_batch=meter.advance)
        if self.store:
            self.store.save(cell, result)
        return dict(result)


Cells = Sequence[tuple[Variant, Mapping[str, Any]]]


def _rows(cells: Cells, plan: Plan) -> list[Row]:
    """Rows of every network; the seeds of untrained ones are one row."""
    grouped: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for variant, result in cells:
        for r in result["rows"]:
            label = SHUFFLED if r["shuffled"] else variant.label
            key = (label, r["readout"], r["group"], r["kernel"], r["target"], r["inputs"])
            grouped.setdefault(key, []).append(r)
    return [_folded(key, every, grouped, plan) for key, every in grouped.items()]


def _folded(key: tuple[Any, ...], every: Sequence[Mapping[str, Any]], grouped: Mapping[Any, Any], plan: Plan) -> Row:
    label, readout, group, kernel, target, inputs = key
    goal = next(t for t in plan.targets if t.name == target)
    shown = stack([goal], output_size(plan.size, kernel, plan.padding))[0]
    scores = [np.array(r["spc"]) for r in every]
    controls = grouped.get((UNTRAINED, *key[1:])) if label == GIVEN and inputs == PICTURES else None
    return Row(
        label, readout, group, every[0]["depth_share"], kernel, target, inputs,
        spc=_over(scores, -1.0), mae=_over([np.array(r["mae"]) for r in every], 0.0, np.inf),
        constant=sum(r["constant"] for r in every), baseline=best_constant(shown),
        above_untrained=_paired(scores[0], controls) if controls and group != RGB else None,
        penalty=every[0]["penalty"] if len(every) == 1 else None,
    )  # fmt: skip


def _over(scores: Sequence[np.ndarray[Any, Any]], low: float, high: float = 1.0) -> Estimate:
    """Over pictures of one network; over networks where there are several."""
    if len(scores) == 1:
        return over_scores(scores[0], low=low, high=high)
    means = np.array([s.mean() for s in scores])
    spread = float(means.std(ddof=1))
    half = student(len(means) - 1) * spread / len(means) ** 0.5
    mean = float(means.mean())
    return Estimate(mean, max(low, mean - half), min(high, mean + half), spread, len(scores[0]), len(scores))


def _paired(scores: np.ndarray[Any, Any], controls: Sequence[Mapping[str, Any]]) -> Estimate:
    """What the network has above its untrained twins, on the same pictures; not over the choice of the twins."""
    return over_scores(scores - np.mean([c["spc"] for c in controls], axis=0), low=-2.0, high=2.0)


def _gallery(cells: Cells, plan: Plan, net: Network) -> dict[str, Any]:
    """Some predictions of the network and of an untrained one, beside the targets, for the first test pictures."""
    found = {v.kind: c["maps"] for v, c in reversed(cells) if v.kind in (GIVEN, UNTRAINED) and c["maps"]}
    if GIVEN not in found:  # too many columns
        return {}
    images = next(plan.pictures.test.batches(SHOWN, geometry=net.preprocessing, order=plan.pictures.test_rows[:SHOWN]))[
        0
    ]
    return {
        "site": found[GIVEN]["site"],
        "names": [t.name for t in plan.targets],
        "pictures": _thumbnails(images),
        "targets": (1000 * stack(plan.targets, plan.size)).round().div(1000).tolist(),
        "predicted": {kind: maps["predicted"] for kind, maps in sorted(found.items())},
    }


def _thumbnails(images: torch.Tensor) -> list[str]:
    """Small pictures as base64 of their bytes, (THUMBNAIL, THUMBNAIL, 3) each."""
    small = torch.nn.functional.interpolate(images.float(), size=(THUMBNAIL, THUMBNAIL), mode="area")
    low, high = small.amin(), small.amax()
    scaled = (small - low) / (high - low).clamp_min(1e-9) if images.is_floating_point() else small / 255
    shown = scaled if scaled.shape[1] == 3 else scaled[:, :1].expand(-1, 3, -1, -1)
    pixels = shown.mul(255).round().byte().permute(0, 2, 3, 1).contiguous()
    return [base64.b64encode(p.numpy().tobytes()).decode() for p in pixels]
