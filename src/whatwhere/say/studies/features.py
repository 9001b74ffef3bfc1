"""Features of a site over scenes, computed once and kept on disk: every kind of bottleneck learns from the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from whatwhere.data.scenes import SceneSplit
from whatwhere.errors import InputError
from whatwhere.files import write_atomically
from whatwhere.fingerprints import architecture
from whatwhere.lab.progress import Meter
from whatwhere.label_maps import CLASS
from whatwhere.network import Network
from whatwhere.say.concepts import ConceptSource
from whatwhere.say.heads import at_cells, shares_of
from whatwhere.site import evaluating
from whatwhere.training.objectives import score_maps

FEATURES = "features"  # the folder they are in


@dataclass(frozen=True)
class SiteFeatures:
    """What a network holds at a site, for every picture of a split, beside the labels.

    Attributes:
        features: (N, C, h, w), half precision, on disk.
        split: the scenes.
        targets: (N, K, h, w) int8 concepts at the centres of the features' cells: 1, 0, -1 unlabelled; K is 0 where the
            concepts are labelled on other pictures.
        shares: (N, K, h, w) half precision: how much of each cell a concept fills; -1 unlabelled.
    """

    features: NDArray[np.float16]
    split: SceneSplit
    targets: NDArray[np.int8]
    shares: NDArray[np.float16]

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.split)

    @property
    def labelled(self) -> bool:
        """Whether these scenes have labels of the concepts."""
        return self.targets.shape[1] > 0

    @property
    def fingerprint(self) -> str:
        """Of the scenes and the features."""
        some = np.ascontiguousarray(self.features[:: max(1, len(self) // 16)])
        return sha256(self.split.fingerprint.encode() + some.tobytes()).hexdigest()[:16]

    @property
    def contents(self) -> str:
        """Of the scenes."""
        return self.split.contents

    def batches(self, size: int, *, order: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Features (n, C, h, w), float32, and the class maps of their pictures (n, H, W)."""
        rows = torch.arange(len(self)) if order is None else order
        for part in rows.split(size):
            maps = torch.stack([labels[CLASS].long() for _, labels in self.split.rows(part.tolist())])
            yield self.at(part), maps

    def at(self, rows: Tensor) -> Tensor:
        """Features of some rows, float32."""
        return torch.from_numpy(self.features[rows.numpy()].astype(np.float32))

    def concepts_at(self, rows: Tensor) -> Tensor:
        """Concept labels of some rows, (n, K, h, w)."""
        return torch.from_numpy(self.targets[rows.numpy()])

    def shares_at(self, rows: Tensor) -> Tensor:
        """How much of their cells the concepts of some rows fill, (n, K, h, w), float32."""
        return torch.from_numpy(self.shares[rows.numpy()].astype(np.float32))


class TrueMaps(SiteFeatures):
    """The labels' own concept maps (shares of cells) in the place of features; what is unlabelled counts as absent."""

    @classmethod
    def of(cls, held: SiteFeatures) -> TrueMaps:
        """The same pictures."""
        return cls(np.asarray(held.shares).clip(0), held.split, held.targets, held.shares)


def site_features(
    net: Network, site: str, split: SceneSplit, source: ConceptSource | None, spec: Mapping[str, Any], folder: Path
) -> SiteFeatures:
    """Run a network over scenes and keep what it holds at a site.

    Args:
        net: the network.
        site: a module's name; its output a map.
        split: scenes of one size.
        source: of the concepts; None: they are not labelled in these scenes.
        spec: what the source is made of: concepts of the same names may have other meanings.
        folder: where the arrays are kept; a second call with the same network, scenes and site reads them.

    Raises:
        InputError: for scenes of several sizes, or features beyond half precision.
    """
    about = [weights_fingerprint(net.module), architecture(net.module), site, split.fingerprint, split.contents]
    key = sha256(json.dumps([*about, net.preprocessing.to_dict()]).encode()).hexdigest()[:16]
    file = folder / FEATURES / f"{split.name}-{key}.npy"
    if not file.exists():
        write_atomically(file, lambda path: _write(path, net, site, split))
    features = np.load(file, mmap_mode="r", allow_pickle=False)
    if source is None:
        none = (len(split), 0, *features.shape[-2:])
        return SiteFeatures(features, split, np.zeros(none, np.int8), np.zeros(none, np.float16))
    return SiteFeatures(features, split, *_concepts(split, source, spec, features.shape[-2:], folder))


def weights_fingerprint(module: nn.Module) -> str:
    """16 hexadecimal digits of all of a network's tensors."""
    digest = sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _write(path: Path, net: Network, site: str, split: SceneSplit) -> None:
    array: Any = None
    first = torch.Size()
    with evaluating(net.module), Meter(f"features at {site}, {split.name}", len(split)) as meter:
        for row, (picture, _) in enumerate(split.rows()):
            value = held_at(net.module, site, net.prepared(picture[None]))[0].cpu()
            if array is None:
                shape, first = (len(split), *value.shape), picture.shape
                array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
            if picture.shape != first:
                raise InputError(
                    f"split {split.name!r}, {split.pictures.place(row)}: its picture is {tuple(picture.shape[-2:])} "
                    "(H, W), others are not; resize the scenes (pictures and label maps) to one size."
                )
            array[row] = halved(value, site)
            meter.update(row + 1)
    array.flush()


def halved(value: Tensor, site: str) -> NDArray[np.float16]:
    """Features in half precision, as they are kept.

    Raises:
        InputError: if they are beyond its range.
    """
    if not bool(value.half().isfinite().all()):
        raise InputError(
            f"site={site!r}: features are not finite, or beyond 65504; choose a site behind a normalisation."
        )
    found: NDArray[np.float16] = value.half().numpy()
    return found


def held_at(module: nn.Module, site: str, x: Tensor) -> Tensor:
    """A site's output on a batch, (N, C, h, w)."""
    seen: list[Tensor] = []
    handle = module.get_submodule(site).register_forward_hook(lambda _m, _a, output: seen.append(output.clone()))
    try:
        score_maps(module(x))
    finally:
        handle.remove()
    return seen[0]


def _concepts(
    split: SceneSplit, source: ConceptSource, spec: Mapping[str, Any], size: tuple[int, ...], folder: Path
) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Labels at the cells' centres, and shares of the cells."""
    about = json.dumps([split.fingerprint, split.contents, dict(spec), list(source.names), list(size)], sort_keys=True)
    key = sha256(about.encode()).hexdigest()[:16]
    files = [folder / FEATURES / f"{split.name}-{what}-{key}.npy" for what in ("concepts", "shares")]
    if not all(f.exists() for f in files):
        maps = (source(p, labels)[None] for p, labels in split.rows())
        both = [(at_cells(m, size)[0].numpy(), shares_of(m, size)[0].half().numpy()) for m in maps]
        for file, rows in zip(files, zip(*both, strict=True), strict=True):
            write_atomically(file, partial(_save, array=np.stack(rows)))
    targets, shares = (np.load(f, mmap_mode="r", allow_pickle=False) for f in files)
    return targets, shares


def _save(path: Path, array: NDArray[Any]) -> None:
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)
