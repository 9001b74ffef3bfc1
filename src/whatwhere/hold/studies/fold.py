"""From finished cells to the rows and the gallery of the read-out."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from whatwhere.hold.features import RGB
from whatwhere.hold.score import best_constant
from whatwhere.hold.studies.measure import SHOWN
from whatwhere.hold.studies.pictures import PICTURES, part_of
from whatwhere.hold.studies.reading import Reading
from whatwhere.hold.studies.readout_result import SHUFFLED, THUMBNAIL, Row
from whatwhere.hold.studies.variants import GIVEN, UNTRAINED, Variant
from whatwhere.hold.targets import stack
from whatwhere.intervals import Estimate, over_networks, over_scores
from whatwhere.lab.packed import pack_maps, unpack_scores
from whatwhere.network import Network

FRESH = "untrained networks and test pictures"  # what an interval over both covers
Cells = Sequence[tuple[Variant, Mapping[str, Any]]]


def folded_rows(cells: Cells, reading: Reading) -> list[Row]:
    """Rows of every network; the seeds of untrained ones are one row."""
    grouped: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for variant, result in cells:
        for r in result["rows"]:
            label = SHUFFLED if r["shuffled"] else variant.label
            key = (label, r["readout"], r["group"], r["kernel"], r["target"], r["inputs"])
            grouped.setdefault(key, []).append(r)
    return [_folded(key, every, grouped, reading) for key, every in grouped.items()]


def _folded(
    key: tuple[Any, ...], every: Sequence[Mapping[str, Any]], grouped: Mapping[Any, Any], reading: Reading
) -> Row:
    label, readout, group, kernel, target, inputs = key
    goal = next(t for t in reading.targets if t.name == target)
    shown = stack([goal], every[0]["size"])[0]
    scores = [unpack_scores(r["spc"]) for r in every]
    controls = grouped.get((UNTRAINED, *key[1:]), []) if label == GIVEN and inputs == PICTURES else []
    return Row(
        label,
        readout,
        group,
        every[0]["depth_share"],
        kernel,
        target,
        inputs,
        spc=_over(scores, -1.0),
        mae=_over([unpack_scores(r["mae"]) for r in every], 0.0, np.inf),
        constant=sum(r["constant"] for r in every),
        baseline=best_constant(shown),
        above_untrained=_above(scores[0], controls) if group != RGB else None,
        penalty=every[0]["penalty"] if len(every) == 1 else None,
        size=every[0]["size"],
    )


def _over(scores: Sequence[np.ndarray[Any, Any]], low: float, high: float = 1.0) -> Estimate:
    """Over pictures; over networks as well where there are several."""
    if len(scores) == 1:
        return over_scores(scores[0], low=low, high=high)
    return over_networks(np.array(scores), counted=False, low=low, high=high, covers=FRESH)


def _above(scores: np.ndarray[Any, Any], controls: Sequence[Mapping[str, Any]]) -> Estimate | None:
    """What the network has above its untrained twins on the same pictures; over pictures and over the twins."""
    if len(controls) < 2:
        return None
    others = np.array([unpack_scores(c["spc"]) for c in controls])
    return over_networks(scores - others, counted=False, low=-2.0, high=2.0, covers=FRESH)


def gallery_of(cells: Cells, reading: Reading, net: Network) -> dict[str, Any]:
    """Some predictions of the network and of an untrained one, beside the targets, for the first test pictures."""
    found = {v.kind: c["maps"] for v, c in reversed(cells) if v.kind in (GIVEN, UNTRAINED) and c["maps"]}
    if GIVEN not in found:  # too many columns
        return {}
    test = reading.pictures.test
    first = part_of(test, torch.arange(min(SHOWN, len(test))))
    images = next(first.batches(SHOWN, geometry=net.preprocessing))[0]
    return {
        "site": found[GIVEN]["site"],
        "names": [t.name for t in reading.targets],
        "pictures": _thumbnails(images),
        "targets": pack_maps(stack(reading.targets, reading.size)),
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
