"""The mIoU of ESPNet on CamVid without spatial information, part by part: counts, then a table and a figure.

In the root of the repository; a call goes on where the last one stopped, and further calls beside it (`reversed`) help.

    python reproductions/espnet/need.py CAMVID ESPNET OUT [reversed]
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import whatwhere as ww
from whatwhere.data.load_scenes import load_scenes
from whatwhere.data.scenes import SceneSplit
from whatwhere.data.sources import Rows
from whatwhere.files import write_atomically, write_json
from whatwhere.label_maps import CLASS
from whatwhere.report.figures import Line, save_figure
from whatwhere.report.panels import panels_figure
from whatwhere.resampling import over_groups
from whatwhere.training.evaluate_scenes import confusion, evaluate_scenes, pooled_miou

EVERY = 8  # of the test pictures, so that each segment of ten frames has one or two
DEEP = [f"encoder.level3.{i}" for i in range(8)]
ENCODER = ["encoder.level1", "encoder.level2_0", "encoder.level2.0", "encoder.level2.1", "encoder.level3_0", *DEEP]
PLACES = [*ENCODER, "combine_l2_l3", "conv.conv"]
LAST, ALONE, TO_END = DEEP[-1], "one part alone", "from there to the end of the encoder"
BLOCKS, BRANCHES = ["encoder.level2.0", "encoder.level2.1", *DEEP], "one block alone, its shortcut as it was"
MODES = {"shuffled": ww.need.shuffle, "mean": ww.need.pool}
CONTROLS = {
    "commonest class": "the commonest class of the training pictures at every pixel",
    "place alone": "the commonest class of the training pictures at each pixel's own place",
}
Counts = NDArray[np.float64]
Block = Callable[[ww.Network, Any], AbstractContextManager[Any]]


def removals() -> Iterator[tuple[str, str, str, Block]]:
    """How far it reaches, where, how, and the block in which it is so."""
    yield "nothing", "", "", lambda net, table: nullcontext()
    for place in BLOCKS:
        yield (
            BRANCHES,
            place,
            "shuffled",
            lambda net, table, p=place: ww.need.shuffle(net, p, table=table, shortcuts=False),
        )
    for how, remove in MODES.items():
        for place in PLACES:
            yield ALONE, place, how, lambda net, table, p=place, r=remove: r(net, p, table=table)
    for how, remove in MODES.items():
        for place in ENCODER[:-1]:
            to_end = f"{place}:{LAST}"
            yield TO_END, place, how, lambda net, table, p=to_end, r=remove: r(net, p, table=table)


def main(data: str, weights: str, out: str, backwards: bool = False) -> None:
    scenes = load_scenes(data)
    net = ww.load_model("reproductions.espnet.espnet:camvid", weights=weights)
    split, folder = some(scenes.test), Path(out)
    todo, table = list(removals()), ww.sites(net)
    for reach, place, how, block in reversed(todo) if backwards else todo:
        file = folder / "cells" / f"{'-'.join(filter(None, (reach, place, how))).replace(' ', '_')}.json"
        if not file.exists():
            with block(net, table):
                found = evaluate_scenes(net, split)
            about = {"reach": reach, "place": place, "how": how, "groups": found.groups.tolist()}
            write_json(file, {**about, "confusions": found.confusions.tolist()})
            print(f"{reach}, {place}, {how}: {found}", flush=True)
    for name, said in guesses(scenes.train).items():
        counted = torch.stack(
            [confusion(said, m.long(), len(split.classes)) for m in split.class_maps(range(len(split)))]
        )
        about = {"reach": name, "place": "", "how": "", "groups": split.groups.tolist()}
        write_json(folder / "cells" / f"{name.replace(' ', '_')}.json", {**about, "confusions": counted.tolist()})
    summary(folder)


def some(test: SceneSplit) -> SceneSplit:
    """Every eighth test picture, in the groups of all of them."""
    rows = torch.arange(0, len(test), EVERY)
    maps = {CLASS: Rows(test.maps[CLASS], rows)}
    return SceneSplit(test.name, Rows(test.pictures, rows), maps, test.classes, test.groups[rows], test.values)


def guesses(train: SceneSplit) -> dict[str, torch.Tensor]:
    """Class maps (H, W) that see no picture."""
    counts: Any = 0
    for labels in train.class_maps(range(len(train))):
        counts = counts + torch.stack([labels == k for k in range(len(train.classes))]).int()
    commonest = torch.full(counts.shape[1:], int(counts.sum((1, 2)).argmax()))
    return dict(zip(CONTROLS, (commonest, counts.argmax(0)), strict=True))


def summary(folder: Path) -> None:
    """table.csv and curve.png of what is measured so far."""
    cells = [json.loads(f.read_text()) for f in sorted((folder / "cells").glob("*.json"))]
    intact = next(grouped(c) for c in cells if c["reach"] == "nothing")
    index = {place: i for i, place in enumerate(["", *PLACES])}
    cells.sort(key=lambda c: (c["reach"], c["how"], index[c["place"]]))
    rows = [row(cell, intact) for cell in cells]
    write_atomically(folder / "table.csv", lambda path: written(path, rows))
    panels = {}
    for reach in (BRANCHES, ALONE, TO_END):
        of = {how: [r for r in rows if (r["reach"], r["how"]) == (reach, how)] for how in MODES}
        panels[reach] = [line(how, there) for how, there in of.items() if there]
    level = {r["reach"]: r["mIoU %"] for r in rows if not r["how"]}
    title = "ESPNet, CamVid: mIoU (%) without spatial information; " + ", ".join(
        f"{k} {v:.1f}" for k, v in level.items()
    )
    save_figure(panels_figure(panels, PLACES, title=title, y="mIoU (%)"), folder, "curve")


def grouped(cell: dict[str, Any]) -> Counts:
    """Confusions (groups, classes, classes)."""
    _, at = np.unique(cell["groups"], return_inverse=True)
    counts = np.zeros((at.max() + 1, *np.shape(cell["confusions"])[1:]))
    np.add.at(counts, at, np.array(cell["confusions"], float))
    return counts


def row(cell: dict[str, Any], intact: Counts) -> dict[str, Any]:
    counts = grouped(cell)
    whole, before = counts.sum(0), intact.sum(0)
    miou = over_groups(counts, lambda t: pooled_miou(t, whole), low=0.0)
    change = over_groups(
        np.stack([counts, intact], 1), lambda t: pooled_miou(t[0], whole) - pooled_miou(t[1], before), low=-1.0
    )
    return {
        **{k: cell[k] for k in ("reach", "place", "how")},
        **{k: round(100 * v, 2) for k, v in named("mIoU %", miou).items()},
        **{k: round(100 * v, 2) for k, v in named("change", change).items()},
        "pixel accuracy %": round(100 * float(whole.trace() / whole.sum()), 2),
        "pictures": len(cell["groups"]),
        "groups": miou.groups,
    }


def named(name: str, found: Any) -> dict[str, float]:
    return {name: found.value, f"{name} low": found.low, f"{name} high": found.high}


def written(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def line(how: str, rows: list[dict[str, Any]]) -> Line:
    at = tuple(float(PLACES.index(r["place"])) for r in rows)
    return Line(how, at, *(tuple(r[k] for r in rows) for k in ("mIoU %", "mIoU % low", "mIoU % high")))


if __name__ == "__main__":
    main(*sys.argv[1:4], backwards=sys.argv[4:] == ["reversed"])
