"""Places in pictures of Broden+: what a network holds there, and which concepts are labelled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from whatwhere.files import write_atomically
from whatwhere.fingerprints import architecture
from whatwhere.lab.progress import Meter
from whatwhere.network import Network
from whatwhere.say.heads import Pixels, at_cells, check_both, shares_of
from whatwhere.say.studies.broden_concepts import BrodenConcepts, blank, on_grid
from whatwhere.say.studies.concept_spec import BRODEN
from whatwhere.say.studies.features import halved, held_at, weights_fingerprint
from whatwhere.say.studies.kinds import SAMPLE, HeadPixels
from whatwhere.site import evaluating

POINTS, SHORT = 4, 128  # labels are read at least at so many points along a cell, and along a picture's short side
LONG = 2.0  # a resized picture is at most as many times as long as a scene
PARTS = ("fit", "calibration", "validation")


@dataclass(frozen=True)
class Places:
    """Places of one part of Broden+'s pictures.

    Attributes:
        features: (P, C) of the site.
        shares: (P, K) how much of its cell each concept fills; -1 unlabelled.
        centres: (P, K) int8 concepts at the cell's centre: 1, 0, -1 unlabelled.
        pictures: that they are of.
    """

    features: Tensor
    shares: Tensor
    centres: Tensor
    pictures: int

    def __len__(self) -> int:
        """Number of places."""
        return len(self.features)

    @property
    def pixels(self) -> Pixels:
        """To fit heads on."""
        return Pixels(self.features, self.shares)


@dataclass(frozen=True)
class BrodenSite:
    """A network's site, run on the pictures of Broden+.

    Attributes:
        net: the network.
        site: a module's name.
        size: (H, W) of the scenes; Broden+'s pictures are resized to their short side.
        concepts: which concepts.
    """

    net: Network
    site: str
    size: tuple[int, int]
    concepts: BrodenConcepts

    @property
    def heads(self) -> HeadPixels:
        """Places to fit and to calibrate the concept heads on; the same where too few pictures hold none out.

        Raises:
            InputError: for a concept that is nowhere present, or nowhere absent, in the places to fit on.
        """
        fit, held = self.places("fit").pixels, self.places("calibration")
        check_both(self.concepts.names, fit)
        return HeadPixels(fit, held.pixels if len(held) else fit)

    @property
    def about(self) -> dict[str, int]:
        """Numbers of pictures and places, for the result."""
        parts = {part: self.places(part) for part in PARTS}
        places = len(parts["fit"]) + len(parts["calibration"])
        return {**{f"{part} pictures": found.pictures for part, found in parts.items()}, "places": places}

    def places(self, part: str) -> Places:
        """The places of a part, computed once.

        Args:
            part: of `PARTS`.
        """
        file = self.concepts.kept / f"broden-{part}-{self._key(part)}.npz"
        if not file.exists():
            found = self._drawn(part)
            write_atomically(file, lambda path: _save(path, found))
        with np.load(file, allow_pickle=False) as kept:
            features, shares, centres = (torch.from_numpy(kept[k]) for k in ("features", "shares", "centres"))
            return Places(features.float(), shares.float(), centres, int(kept["pictures"]))

    def _key(self, part: str) -> str:
        net = [weights_fingerprint(self.net.module), architecture(self.net.module), self.net.preprocessing.to_dict()]
        about = [*net, self.site, self.concepts.spec[BRODEN], list(self.concepts.names), part, self.size, SAMPLE]
        return sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]

    def _drawn(self, part: str) -> Mapping[str, Any]:
        """As many places from every picture, where something is labelled; to fit on, one more of each concept there."""
        split, rows = self.concepts.rows(part)
        each, generator = max(1, SAMPLE // max(1, len(rows))), torch.Generator().manual_seed(0)
        found: list[tuple[Tensor, ...]] = []
        with evaluating(self.net.module), Meter(f"Broden+ at {self.site}, {part}", len(rows)) as meter:
            for done, row in enumerate(rows, 1):
                features, shares, centres = self._picture(split, row)
                at = drawn_at(shares, each, generator, every=part == "fit")
                if len(at):
                    found.append((features[at], shares[at], centres[at]))
                meter.update(done)
        k = len(self.concepts.names)
        features, shares, centres = (torch.cat(p) for p in zip(*found, strict=True)) if found else _nothing(k)
        return {
            "features": halved(features, self.site),
            "shares": shares.half().numpy(),
            "centres": centres.numpy(),
            "pictures": np.int64(len(found)),
        }

    def _picture(self, split: str, row: int) -> tuple[Tensor, Tensor, Tensor]:
        """Features (P, C), shares (P, K) and labels at the centres (P, K) of all cells of one picture."""
        picture, labels = self.concepts.splits[split][row]
        size = fitting((picture.shape[1], picture.shape[2]), self.size)
        x = functional.interpolate(picture[None].float(), size=size, mode="bilinear", antialias=True)
        x = held_at(self.net.module, self.site, self.net.prepared(x.round().clamp(0, 255).to(torch.uint8))).cpu()
        cells = x.shape[-2:]
        points = max(POINTS, -(-SHORT // min(cells)))
        grid = (cells[0] * points, cells[1] * points)
        maps = self.concepts.source(split)(blank(grid), on_grid(labels, grid))[None]
        return flat(x), flat(shares_of(maps, cells)), flat(at_cells(maps, cells))


def flat(maps: Tensor) -> Tensor:
    """(1, K, h, w) to (h * w, K)."""
    return maps[0].flatten(1).T


def _nothing(concepts: int) -> tuple[Tensor, Tensor, Tensor]:
    return torch.zeros(0, 0), torch.zeros(0, concepts), torch.zeros(0, concepts, dtype=torch.int8)


def _save(path: Path, found: Mapping[str, Any]) -> None:
    with path.open("wb") as file:
        np.savez(file, **found)


def drawn_at(shares: Tensor, n: int, generator: torch.Generator, *, every: bool) -> Tensor:
    """Places of one picture at random, where a concept is labelled.

    Args:
        shares: (P, K) of its places; -1 unlabelled.
        n: places, at most as many as there are.
        generator: source of the draws.
        every: also one place of each concept that is present.

    Returns:
        Numbers of places, ascending, each once.
    """
    labelled = (shares >= 0).any(1).nonzero()[:, 0]
    drawn = [labelled[torch.randperm(len(labelled), generator=generator)[:n]]]
    if every:
        for k in (shares > 0).any(0).nonzero()[:, 0].tolist():
            there = (shares[:, k] > 0).nonzero()[:, 0]
            drawn.append(there[torch.randint(len(there), (1,), generator=generator)])
    return torch.cat(drawn).unique()


def fitting(size: tuple[int, int], scene: tuple[int, int]) -> tuple[int, int]:
    """The size to which a picture is resized: its short side that of the scenes.

    Both sides are multiples of the power of two, up to 32, that divides the scenes' sides: some networks take no
    others. A very long picture is made smaller, to at most `LONG` times the scenes' long side.

    Args:
        size: (H, W) of the picture.
        scene: (H, W) of the scenes.
    """
    step = next(s for s in (32, 16, 8, 4, 2, 1) if not any(side % s for side in scene))
    scale = min(min(scene) / min(size), LONG * max(scene) / max(size))
    h, w = (max(step, round(side * scale / step) * step) for side in size)
    return h, w
