"""What noise, and a channel that is always on, reach in the AUiC of this study, and each kind's AUiC beside them.

The cells were measured before a result held this. It needs the scenes and the concepts alone:

    python reproductions/restore.py losch2019
    python reproductions/losch2019/chance.py CAMVID
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch

from whatwhere.data.load_scenes import load_scenes
from whatwhere.data.scenes import SceneSplit
from whatwhere.say.concepts import ConceptSource
from whatwhere.say.heads import at_cells
from whatwhere.say.studies.concept_spec import concepts_of
from whatwhere.say.studies.inspection import MOST, Half, difference, noise_level

HERE = Path(__file__).parent


def main(data: str) -> None:
    """Print the levels, and a line for each site and kind.

    Args:
        data: the folder of CamVid.
    """
    scenes = load_scenes(data)
    source = concepts_of(json.loads((HERE / "concepts.json").read_text()), scenes)
    found = [json.loads(f.read_text()) for f in sorted((HERE / "camvid" / "cells").glob("*.json"))]
    cells = {(c["config"]["site"], c["config"]["kind"]): c["result"] for c in found}
    sizes = {tuple(result["shape"][-2:]) for result in cells.values() if "shape" in result}
    for size in sizes:  # of a site's cells: both sites have the same here
        validation, test = (half(split, source, size) for split in (scenes.validation, scenes.test))
        levels = {width: noise_level(validation, test, width) for width in (28, MOST)}
        for width, level in levels.items():
            print(f"cells {size}, {width} channels of noise: {[round(d, 4) for d in level.about['draws']]}", flush=True)
        always = test.always_on()
        share = always.sum(0)[:, 0] / always.sum(0)[:, 1]
        one = difference(always[:, [int(share.argmax())]])
        print(f"always on: {one} ({source.names[int(share.argmax())]}), on average over concepts {share.mean():.3f}")
    for (site, kind), result in sorted(cells.items()):
        if seen := result.get("inspection"):
            own = f", with their own concepts {np.mean(seen['own']):.3f}" if seen["own"] else ""
            print(f"{site}, {kind}: {result['channels']} channels, AUiC {seen['auic']:.4f}{own}")


def half(split: SceneSplit, source: ConceptSource, size: tuple[int, ...]) -> Half:
    """The concepts of a split at the centres of a site's cells."""
    maps = torch.cat([at_cells(source(picture, labels)[None], size) for picture, labels in split.rows()])
    return Half(maps.numpy(), split.groups, lambda rows: maps[rows].float())


if __name__ == "__main__":
    main(sys.argv[1])
