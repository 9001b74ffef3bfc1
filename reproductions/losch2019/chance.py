"""What noise, and a channel that is always on, reach in the AUiC of this study, and each kind's AUiC beside them.

The cells were measured before a result held this. It needs the scenes and the concepts alone:

    python reproductions/restore.py losch2019
    python reproductions/losch2019/chance.py CAMVID
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from whatwhere.data.load_scenes import load_scenes
from whatwhere.data.scenes import Scenes, SceneSplit
from whatwhere.say.concepts import ConceptSource
from whatwhere.say.heads import at_cells
from whatwhere.say.studies.concept_spec import concepts_of
from whatwhere.say.studies.inspection import Half, difference, noise_level

HERE = Path(__file__).parent
SITES = ("backbone.layer4", "fuse")


def main(data: str) -> None:
    """Print a line for each site and kind.

    Args:
        data: the folder of CamVid.
    """
    scenes = load_scenes(data)
    source = concepts_of(json.loads((HERE / "concepts.json").read_text()), scenes)
    cells = [json.loads(f.read_text()) for f in sorted((HERE / "camvid" / "cells").glob("*.json"))]
    for site in SITES:
        found = {c["config"]["kind"]: c["result"] for c in cells if c["config"]["site"] == site}
        print_site(site, found, scenes, source)


def print_site(site: str, found: dict[str, dict[str, Any]], scenes: Scenes, source: ConceptSource) -> None:
    """The level of noise and of channels that are always on, and the AUiC of each kind.

    Args:
        site: of the bottlenecks.
        found: results of the cells, by kind.
        scenes: CamVid.
        source: of the concepts.
    """
    size = found["ssb"]["shape"][-2:]
    validation, test = (half(split, source, size) for split in (scenes.validation, scenes.test))
    always = test.always_on()
    share = always.sum(0)[:, 0] / always.sum(0)[:, 1]
    commonest = int(share.argmax())
    one = difference(always[:, [commonest]])
    print(f"{site}: always on {one} ({source.names[commonest]}), on average over concepts {share.mean():.3f}")
    for kind, result in found.items():
        if seen := result.get("inspection"):
            level = noise_level(validation, test, result["channels"])
            draws = [round(d, 4) for d in level.about["draws"]]
            own = f", own concepts {np.mean(seen['own']):.3f}" if seen["own"] else ""
            print(f"  {kind}: {result['channels']} channels, AUiC {seen['auic']:.4f}{own}; noise {draws}", flush=True)


def half(split: SceneSplit, source: ConceptSource, size: list[int]) -> Half:
    """The concepts of a split at the centres of a site's cells."""
    maps = torch.cat([at_cells(source(picture, labels)[None], size) for picture, labels in split.rows()])
    return Half(maps.numpy(), split.groups, lambda rows: maps[rows].float())


if __name__ == "__main__":
    main(sys.argv[1])
