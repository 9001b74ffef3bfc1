"""Pictures for `whatwhere need recover`: unlabelled crops to distil on, photographs of other classes to test on.

    python pictures.py IMAGENET-500 PHOTOS OUT [--crops 8]

IMAGENET-500 is a folder of parquet files (image, label 0-999) with one photograph of each of 500 classes; PHOTOS a
folder of photographs without labels. OUT gets train-*.parquet, crops of half of the first and of all of the second, all
without labels (-1), and test-*.parquet, the other half as it is. The halves are drawn with seed 0; no photograph is in
both.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np
from PIL import Image

SIDE = 256  # of a crop, of which the network's preprocessing takes the centre of 224
SCALE, RATIO = (0.25, 1.0), (3 / 4, 4 / 3)  # of a crop's area and sides, drawn as torchvision's RandomResizedCrop does


def crop(picture: Image.Image, draws: np.random.Generator) -> bytes:
    """A random crop, mirrored or not, as JPEG."""
    width, height = picture.size
    while True:
        area = draws.uniform(*SCALE) * width * height
        ratio = np.exp(draws.uniform(*np.log(RATIO)))
        w, h = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if w <= width and h <= height:
            break
    left, top = draws.integers(0, width - w + 1), draws.integers(0, height - h + 1)
    part = picture.convert("RGB").crop((left, top, left + w, top + h)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    if draws.random() < 0.5:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    content = io.BytesIO()
    part.save(content, "JPEG", quality=95)
    return content.getvalue()


def crops(pictures: list[Image.Image], count: int) -> Iterator[dict[str, object]]:
    draws = np.random.default_rng(0)
    for _ in range(count):
        for picture in pictures:
            yield {"image": {"bytes": crop(picture, draws), "path": None}, "label": -1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labelled", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--crops", type=int, default=8)
    args = parser.parse_args()
    (given,) = datasets.load_dataset(str(args.labelled)).values()
    order = np.random.default_rng(0).permutation(len(given))
    learned, tested = np.sort(order[: len(given) // 2]), np.sort(order[len(given) // 2 :])
    photos = [Image.open(f) for f in sorted(args.photos.glob("*.jpg"))]
    rows = list(crops([*(given[int(i)]["image"] for i in learned), *photos], args.crops))
    train = datasets.Dataset.from_list(rows, features=given.features)
    args.out.mkdir(parents=True, exist_ok=True)
    train.to_parquet(args.out / "train-00000-of-00001.parquet")
    given.select(tested).to_parquet(args.out / "test-00000-of-00001.parquet")


if __name__ == "__main__":
    main()
