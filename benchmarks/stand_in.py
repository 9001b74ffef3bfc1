"""A stand-in for ImageNet: 2,000 pictures in the layouts in which it is distributed.

    python benchmarks/stand_in.py IMAGENET-500 OUT            # a folder of parquet files with `image` and `label` 0-999

Four crops of each of 500 labelled photographs, three to train on and one to test on, under the real names of the
classes: they show that layouts are read and recipes run, and teach next to nothing. Written are

    flat/      ILSVRC2012 as it is unpacked: train/nXXXXXXXX/*.JPEG, val/*.JPEG, ILSVRC2012_devkit_t12/
    kaggle/    ILSVRC/Data/CLS-LOC/{train,val,test}, LOC_val_solution.csv, LOC_synset_mapping.txt
    folders/   val in class folders, as torchvision and most scripts want it
    small64/   downsampled to 64 px: train_data_batch_{1,2}.npz, val_data.npz, map_clsloc.txt; small32/ alike
    shards/    tar shards of .jpg, .cls and .json
    parquet/   two files for each split
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
from PIL import Image
from scipy.io import savemat
from timm.data import ImageNetInfo

CROPS = (("train", 0, 0), ("train", 1, 0), ("train", 0, 1), ("val", 1, 1))
SHARE = 0.8  # of each side that a crop keeps


@dataclass(frozen=True)
class Picture:
    """A picture of the stand-in: its split, number within it, class and JPEG file."""

    split: str
    number: int
    label: int
    synset: str
    jpeg: bytes

    @property
    def name(self) -> str:
        """Of its file."""
        stem = f"{self.synset}_{self.number}" if self.split == "train" else f"ILSVRC2012_val_{self.number:08d}"
        return f"{stem}.JPEG"


def pictures(folder: Path, most: int) -> Iterator[Picture]:
    """The crops, in a random order within each split as the validation pictures are."""
    table = next(iter(datasets.load_dataset(str(folder)).values()))
    info, counts = ImageNetInfo(), {"train": 0, "val": 0}
    rng = np.random.default_rng(0)
    for split, right, down in CROPS:
        for row in rng.permutation(min(most, len(table))).tolist():
            photo, label = table[row]["image"].convert("RGB"), table[row]["label"]
            width, height = (round(SHARE * side) for side in photo.size)
            left, top = right * (photo.width - width), down * (photo.height - height)
            encoded = io.BytesIO()
            photo.crop((left, top, left + width, top + height)).save(encoded, "JPEG", quality=90)
            counts[split] += 1
            yield Picture(split, counts[split], label, info.index_to_label_name(label), encoded.getvalue())


def write(path: Path, content: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def flat(out: Path, every: list[Picture], ids: dict[str, int]) -> None:
    for p in every:
        write(out / p.split / (f"{p.synset}/{p.name}" if p.split == "train" else p.name), p.jpeg)
    kit = out / "ILSVRC2012_devkit_t12" / "data"
    truth = [str(ids[p.synset]) for p in every if p.split == "val"]
    write(kit / "ILSVRC2012_validation_ground_truth.txt", "\n".join(truth) + "\n")
    kinds = [("ILSVRC2012_ID", "f8"), ("WNID", "O"), ("words", "O"), ("num_children", "f8")]
    rows = sorted((number, synset, synset, 0) for synset, number in ids.items())
    synsets = np.array([*rows, (len(ids) + 1, "n00001740", "entity", len(ids))], dtype=kinds)  # an inner node
    savemat(kit / "meta.mat", {"synsets": synsets[:, None]})


def kaggle(out: Path, every: list[Picture]) -> None:
    place = out / "ILSVRC" / "Data" / "CLS-LOC"
    for p in every:
        write(place / p.split / (f"{p.synset}/{p.name}" if p.split == "train" else p.name), p.jpeg)
    write(place / "test" / "ILSVRC2012_test_00000001.JPEG", every[0].jpeg)
    lines = [f"{Path(p.name).stem},{p.synset} 1 1 90 90 \n" for p in reversed(every) if p.split == "val"]
    write(out / "LOC_val_solution.csv", "ImageId,PredictionString\n" + "".join(lines))
    write(out / "LOC_synset_mapping.txt", "".join(f"{s} words\n" for s in sorted({p.synset for p in every})))


def folders(out: Path, every: list[Picture]) -> None:
    for p in every:
        write(out / p.split / p.synset / p.name, p.jpeg)


def downsampled(out: Path, every: list[Picture], ids: dict[str, int], side: int) -> None:
    def rows(some: list[Picture]) -> dict[str, np.ndarray]:
        small = [Image.open(io.BytesIO(p.jpeg)).resize((side, side), Image.Resampling.BOX) for p in some]
        data = np.stack([np.asarray(s).transpose(2, 0, 1).reshape(-1) for s in small])
        return {"data": data, "labels": np.array([ids[p.synset] for p in some]), "mean": data.mean(0)}

    train = [p for p in every if p.split == "train"]
    parts = {f"train_data_batch_{i + 1}": train[i::2] for i in range(2)}
    out.mkdir(parents=True, exist_ok=True)
    for name, some in {**parts, "val_data": [p for p in every if p.split == "val"]}.items():
        np.savez(out / f"{name}.npz", **rows(some))
    write(out / "map_clsloc.txt", "".join(f"{s} {n} words\n" for s, n in sorted(ids.items(), key=lambda x: x[1])))


def shards(out: Path, every: list[Picture], labels: dict[str, int]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    kinds = (("train", "imagenet1k-train-{:04d}.tar", 3), ("val", "imagenet1k-validation-{:02d}.tar", 2))
    for split, name, count in kinds:
        some = [p for p in every if p.split == split]
        for i in range(count):
            with tarfile.open(out / name.format(i), "w") as tar:
                for p in some[i::count]:
                    about = json.dumps({"label": labels[p.synset], "class_name": p.synset, "filename": p.name})
                    parts = (("jpg", p.jpeg), ("cls", str(labels[p.synset]).encode()), ("json", about.encode()))
                    for ending, content in parts:
                        entry = tarfile.TarInfo(f"{Path(p.name).stem}.{ending}")
                        entry.size = len(content)
                        tar.addfile(entry, io.BytesIO(content))


def parquet(out: Path, every: list[Picture], labels: dict[str, int]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=sorted(labels)))
    for split, name in (("train", "train"), ("val", "validation")):
        some = [p for p in every if p.split == split]
        for i in range(2):
            rows = {
                "image": [{"bytes": p.jpeg, "path": p.name} for p in some[i::2]],
                "label": [labels[p.synset] for p in some[i::2]],
            }
            datasets.Dataset.from_dict(rows, features=features).to_parquet(out / f"{name}-{i:05d}-of-00002.parquet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--photographs", type=int, default=500)
    options = parser.parse_args()
    every = list(pictures(options.data, options.photographs))
    names = sorted({p.synset for p in every})
    labels = {name: i for i, name in enumerate(names)}
    order = np.random.default_rng(1).permutation(len(names)).tolist()  # the devkit's numbers follow no order of names
    ids = {name: order[i] + 1 for i, name in enumerate(names)}
    shutil.rmtree(options.out, ignore_errors=True)
    flat(options.out / "flat", every, ids)
    kaggle(options.out / "kaggle", every)
    folders(options.out / "folders", every)
    for side in (32, 64):
        downsampled(options.out / f"small{side}", every, ids, side)
    shards(options.out / "shards", every, labels)
    parquet(options.out / "parquet", every, labels)
    print(f"{len(every)} pictures of {len(names)} classes in {options.out}")


if __name__ == "__main__":
    main()
