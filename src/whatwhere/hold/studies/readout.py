"""The measurement: position read out of a network and of its controls, folded into one result."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import nn

from whatwhere.data import Data, load_data
from whatwhere.errors import InputError, unknown
from whatwhere.models.load import random_weights
from whatwhere.network import Network
from whatwhere.position.features import RGB, taps_of
from whatwhere.position.official import Official
from whatwhere.position.ridge import output_size
from whatwhere.position.targets import Range, targets_of
from whatwhere.runs.cells import Cell, Store
from whatwhere.runs.progress import Meter
from whatwhere.runs.provenance import architecture, command, fingerprint, hardware, versions
from whatwhere.sites import Selection, expected_input_size
from whatwhere.studies.position.conclude import conclude
from whatwhere.studies.position.fold import folded_rows, gallery_of
from whatwhere.studies.position.measure import Plan, measure
from whatwhere.studies.position.pictures import Pictures, pictures_of
from whatwhere.studies.position.result import PositionResult
from whatwhere.studies.position.variants import GIVEN, PADDING, SAME, Variant, variants_of

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
    targets: str | Sequence[str] | Mapping[str, Any] = NAMES,
    range: Range = "0..1",
    kernels: int | Sequence[int] = (3,),
    readouts: str | Sequence[str] = ("ridge",),
    padding: int = 0,
    untrained: int = 3,
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
        sites: `levels` (the last map of each resolution), `resnet` (layer1 ... layer4), or any selection, chosen in the
            given network; all of them together and the raw input are read as well. `rgb` is the raw input alone.
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
    data, test = _loaded(data), None if test is None else _loaded(test)
    net = _sized(net if isinstance(net, Network) else Network(net), input_size)
    kernels, readouts = _several(kernels), _several(readouts)
    _check(readouts, blanks, kernels, size, padding)
    chosen = pictures_of(data, test, pictures, test_pictures, seed)
    goals = tuple(targets_of([targets] if isinstance(targets, str) else targets, range=range))
    shape = _shape(chosen, net, input_size)
    taps = () if sites == RGB else tuple(t.name for t in taps_of(net, sites, input_size=shape))
    plan = Plan(
        chosen, taps, goals, kernels, readouts, tuple(blanks), padding, size, official or Official(), seed, batch_size
    )
    variants = variants_of(untrained, PADDED if paddings is None else paddings)
    identity = _identity(net, plan)
    started = time.perf_counter()
    job = _Job(net, plan, Store(Path(out), identity) if out else None, quiet, strict=paddings is not None)
    cells = job.run(variants)
    rows = tuple(folded_rows(cells, plan))
    measured = [note for _, cell in cells for note in cell["notes"]]
    result = PositionResult(
        network=net.name,
        data={"name": data.name, "fit": data.describe(), "test": (test or data).describe()},
        preprocessing=net.preprocessing.to_dict(),
        settings={
            **identity["plan"], "pictures": chosen.describe(), "untrained": untrained,
            "paddings": [v.mode for v in variants if v.mode],
        },
        rows=rows,
        gallery=gallery_of(cells, plan, net),
        conclusion=conclude(rows),
        notes=tuple(dict.fromkeys([*random_weights(net), *NOTES, *_same_pictures(data, test), *job.notes, *measured])),
        provenance={
            "command": command(), "versions": versions(), "hardware": hardware(),
            "seconds": round(time.perf_counter() - started, 1),
        },
    )  # fmt: skip
    if out:
        result.save(out)
    return result


NOTES = (
    "Shuffled positions: fitted and tested with targets whose positions are in an order of each picture's own. It "
    "shows that pipeline and score give nothing where nothing is; it says nothing about the network.",
    "Best sites are chosen on the test pictures themselves, so that their scores are a little high.",
)


def _same_pictures(data: Data, test: Data | None) -> list[str]:
    fit = data.splits.get("train", next(iter(data.splits.values())))
    same = test is not None and test.test.fingerprint == fit.fingerprint
    return ["The test pictures are those that the read-outs were fitted to: scores are too high."] if same else []


def _several(values: Any) -> tuple[Any, ...]:
    return tuple(dict.fromkeys([values] if isinstance(values, str | int) else values))


def _sized(net: Network, side: int | None) -> Network:
    if side is None:
        return net
    if side < 1:
        raise InputError(f"input_size={side}: give a height and width in pixels, such as 224.")
    prep = replace(net.preprocessing, size=(side, side))
    return replace(net, preprocessing=prep, input_size=(expected_input_size(net)[0], side, side))


def _shape(pictures: Pictures, net: Network, side: int | None) -> tuple[int, int, int]:
    """(C, H, W) of a prepared picture."""
    shape = pictures.fit.shape(net.preprocessing)
    if side is not None and shape[1:] != (side, side):
        raise InputError(f"input_size={side}: these pictures are prepared tensors of {shape}; resize them yourself.")
    return shape


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
        "sites": plan.sites,
        "targets": [[t.name, "own" if t.values is not None else t.range] for t in plan.targets],
        "own targets": [t.values.tolist() for t in plan.targets if t.values is not None],
        "kernels": plan.kernels, "readouts": plan.readouts, "blanks": plan.blanks, "padding": plan.padding,
        "size": plan.size, "official": asdict(plan.official), "seed": plan.seed, "batch_size": plan.batch,
    }  # fmt: skip
    return {
        "study": "position", "network": net.name, "weights": fingerprint(net.module),
        # Paddings and strides are no tensors.
        "layers": architecture(net.module),
        "preprocessing": net.preprocessing.to_dict(), "pictures": p.describe(), "plan": described,
    }  # fmt: skip


class _Job:
    def __init__(self, net: Network, plan: Plan, store: Store | None, quiet: bool, *, strict: bool) -> None:
        self.net, self.plan, self.store, self.quiet, self.strict = net, plan, store, quiet, strict
        self.notes: list[str] = []

    def run(self, variants: Sequence[Variant]) -> list[tuple[Variant, dict[str, Any]]]:
        """Measure every network that is not measured yet; each is a cell."""
        done = []
        passes = sum({"ridge": 1, "official": self.plan.official.epochs}[r] for r in self.plan.readouts)
        per = passes * (len(self.plan.pictures.fit) + len(self.plan.pictures.held_out))
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
            net = variant.build(self.net, self.plan.shape(self.net))
        except InputError as error:
            if variant.kind != PADDING or (self.strict and SAME not in str(error)):
                raise
            self.notes.append(f"Padding {variant.mode} is left out: {error}")
            return None
        result = measure(net, self.plan, control=variant.kind == GIVEN, on_batch=meter.advance)
        if self.store:
            self.store.save(cell, result)
        return dict(result)
