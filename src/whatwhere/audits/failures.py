"""Pictures that a network gets wrong, and those that it gets wrong once it cannot tell where: for the page to show."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from whatwhere.data import Split
from whatwhere.data.scenes import SceneSplit
from whatwhere.errors import InputError
from whatwhere.label_maps import IGNORE
from whatwhere.need import shuffle
from whatwhere.network import Network, running
from whatwhere.report.gallery import Gallery, Picture
from whatwhere.say.studies.class_maps import coloured
from whatwhere.site import evaluating
from whatwhere.training.objectives import at_size, score_maps
from whatwhere.training.scores import check_scores

SHOWN, SIDE, TOGETHER = 6, 96, 8  # of each group; pixels of the longer side; pictures in a pass
SCENES, SCENES_SHOWN = 8, 3  # that are looked at, and shown: large pictures, of which each loses something
ABOUT = (
    "The same pictures, seen by the network as it is and with the positions of its features shuffled (each by its own "
    "draw): what it gets wrong only then, it had told apart by where things are, unless shuffling has spoilt more."
)
NOT_SHOWN = "pictures that come out wrong are shown of classes and of label maps, not of {what}."


@dataclass(frozen=True)
class Shuffled:
    """A network with and without *where*.

    Attributes:
        net: the network.
        sites: what is shuffled, as `shuffle` takes it.
        words: the same, for captions.
        seed: of the draw.
    """

    net: Network
    sites: str
    words: str
    seed: int = 0

    def both(self, pictures: Tensor) -> tuple[Any, Any]:
        """The answers to some pictures: as it is, and shuffled."""
        with evaluating(self.net.module), running(self.net, pictures.shape[1:]):
            x = self.net.prepared(pictures)
            intact = self.net.module(x)
            with shuffle(self.net, self.sites, scope="sample", seed=self.seed):
                return intact, self.net.module(x)


def failures(seen: Shuffled, split: Any, most: int) -> dict[str, Any]:
    """What to show: pictures with captions, and how many there were of each kind.

    Args:
        seen: the network with and without *where*.
        split: of pictures with or without class labels, or with label maps.
        most: pictures to look at; of scenes at most 8.

    Raises:
        InputError: for pictures with other answers.
    """
    if isinstance(split, SceneSplit):
        return _scenes(seen, split.take(min(most, SCENES), seed=seen.seed))
    if split.comes_with not in ("class labels", ""):
        raise InputError(NOT_SHOWN.format(what=split.comes_with))
    return _classes(seen, split.take(most, seed=seen.seed))


def _classes(seen: Shuffled, split: Split) -> dict[str, Any]:
    turned, wrong = [], []
    for pictures, labels in split.batches(TOGETHER, geometry=seen.net.preprocessing):
        outputs = seen.both(pictures)
        for found in outputs:
            check_scores(found, torch.zeros(len(pictures), dtype=torch.int64))
        before, after = (found.argmax(1).cpu() for found in outputs)
        truth = torch.where(labels < 0, before, labels)
        for picture, t, b, a in zip(pictures, truth.tolist(), before.tolist(), after.tolist(), strict=True):
            if b != t:
                wrong.append((picture, f"{_class(split, t)}; said: {_class(split, b)}"))
            elif a != t:
                turned.append((picture, f"{_class(split, t)}; without where: {_class(split, a)}"))
    groups = {
        f"Right as it is, wrong when shuffled {seen.words}": turned,
        "Wrong from the start": wrong,
    }
    shown = [s for name, found in groups.items() for s in _shown(name, found, len(split))]
    return {"pictures": len(split), "turned": len(turned), "wrong": len(wrong), "shown": shown}


def _shown(name: str, found: Sequence[tuple[Tensor, str]], n: int) -> Iterator[dict[str, str]]:
    group = f"{name}: {len(found)} of {n} pictures"
    for picture, caption in found[:SHOWN]:
        yield {"group": group, "caption": caption, "png": as_png(_pixels(picture))}


def _class(split: Split, number: int) -> str:
    return str(split.classes[number]) if number < len(split.classes) else f"class {number}"


def _scenes(seen: Shuffled, split: SceneSplit) -> dict[str, Any]:
    """Those that lose most of their right pixels."""
    rows = []
    for picture, labels in split.batches(1, geometry=seen.net.preprocessing):
        before, after = (_said(found, labels) for found in seen.both(picture))
        shares = [_right(said, labels[0]) for said in (before, after)]
        rows.append((shares[0] - shares[1], shares, picture[0], labels[0], before, after))
    rows.sort(key=lambda row: -row[0])
    shown = [s for i, row in enumerate(rows[:SCENES_SHOWN], 1) for s in _scene(i, row, seen.words)]
    return {"pictures": len(split), "shown": shown, "classes": list(split.classes)}


def _said(outputs: Any, labels: Tensor) -> Tensor:
    scores, _ = score_maps(outputs)
    return at_size(scores, labels).argmax(1)[0].cpu()


def _right(said: Tensor, labels: Tensor) -> float:
    known = labels != IGNORE
    return float((said == labels)[known].float().mean()) if bool(known.any()) else 0.0


def _scene(number: int, row: tuple[Any, ...], words: str) -> Iterator[dict[str, str]]:
    _, (before, after), picture, labels, intact, shuffled = row
    group = f"Picture {number}, of those that lose most when shuffled {words}"
    maps = {
        "as labelled": labels,
        f"as it is said: {100 * before:.0f} % of the pixels right": intact,
        f"shuffled: {100 * after:.0f} % right": shuffled,
    }
    yield {"group": group, "caption": "the picture", "png": as_png(_pixels(picture))}
    for caption, values in maps.items():
        yield {"group": group, "caption": caption, "png": as_png(coloured(values, ()))}


def _pixels(picture: Tensor) -> NDArray[np.uint8]:
    """(3, H, W) bytes, or numbers of any range, as (H, W, 3) bytes."""
    values = picture.detach().cpu()
    if values.is_floating_point():
        low, high = values.amin(), values.amax()
        values = (values - low) / (high - low).clamp_min(1e-9) * 255
        values = values.round()
    shown = values if len(values) == 3 else values[:1].expand(3, -1, -1)
    found: NDArray[np.uint8] = shown.byte().permute(1, 2, 0).contiguous().numpy()
    return found


def as_png(values: NDArray[np.uint8]) -> str:
    """A picture (H, W, 3) as text: a PNG of at most `SIDE` pixels, in base64."""
    drawn = Image.fromarray(values, "RGB")
    few = drawn.getcolors(SIDE) is not None  # a label map, whose colours must stay what they are
    if max(drawn.size) > SIDE:
        size = [max(1, round(n * SIDE / max(drawn.size))) for n in drawn.size]
        drawn = drawn.resize((size[0], size[1]), Image.Resampling.NEAREST if few else Image.Resampling.BOX)
    buffer = io.BytesIO()
    drawn.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def of_png(text: str) -> NDArray[np.uint8]:
    """The picture that `as_png` was given, at the size that it kept."""
    return np.array(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))


def gallery(found: Mapping[str, Any]) -> Gallery | None:
    """What the page shows of `failures`; None if nothing went wrong."""
    shown = [Picture(of_png(s["png"]), s["caption"], s["group"]) for s in found.get("shown", ())]
    classes = found.get("classes", ())
    colours = coloured(torch.arange(len(classes))[None], ())[0] if classes else ()
    legend = {name: "#{:02x}{:02x}{:02x}".format(*colour) for name, colour in zip(classes, colours, strict=True)}
    return Gallery("failures", "What it gets wrong", shown, ABOUT, legend=legend) if shown else None
