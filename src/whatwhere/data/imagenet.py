"""ImageNet (ILSVRC2012) as it is distributed: validation pictures in one folder, their classes in a file beside it.

That file is the devkit's, whose numbers `meta.mat` names, or Kaggle's `LOC_val_solution.csv`. Classes are the names of
the training folders (n01440764, ...), sorted, which is the order of the scores of torchvision's and timm's networks.
"""

from __future__ import annotations

import csv
import io
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from scipy.io import loadmat

from whatwhere.data.class_names import in_order
from whatwhere.data.folders import class_folders, folder_part, pictures_of
from whatwhere.data.listing import passed_over, pictures_in
from whatwhere.data.parts import Data, Part, assemble
from whatwhere.data.sources import Files
from whatwhere.errors import InputError

PICTURES = Path("ILSVRC", "Data", "CLS-LOC")  # Kaggle's
KIT, TRUTH, META = "ILSVRC2012_devkit_t12", "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
SOLUTION = "LOC_val_solution.csv"
NAMED = re.compile(r"ILSVRC2012_val_(\d{8})$")


def imagenet_in(folder: Path) -> Path | None:
    """Where ImageNet's `train` and `val` lie in a folder, if `val` is one folder of pictures, or by Kaggle's names."""
    places = [folder, *(folder / Path(*PICTURES.parts[i:]) for i in range(len(PICTURES.parts)))]
    place = next((p for p in places if (p / "val").is_dir() and (p / "train").is_dir()), None)
    if place is None:
        return None
    flat = any(NAMED.match(path.stem) for path in (place / "val").glob("ILSVRC2012_val_*"))
    return place if flat or place.name == PICTURES.name else None


def from_imagenet(folder: Path, place: Path) -> Data:
    """Load ImageNet.

    Args:
        folder: as it was given.
        place: of `train` and `val`, as by `imagenet_in`.

    Raises:
        InputError: if no file says what the validation pictures show, or it does not say so of each.
    """
    folders = {split: class_folders(place / split) for split in ("train", "val")}
    found = {split: pictures_of(place / split, there) for split, there in folders.items()}
    said = {} if folders["val"] else validation_classes(place)
    names = in_order([f.name for there in folders.values() for f in there] + [*said.values()])
    parts = {split: folder_part(found[split], folders[split], names) for split in folders}
    if said:
        parts["val"] = _labelled(found["val"][0].pictures, said, names)
    notes = passed_over(str(place), [held for each in found.values() for held in each])
    if (place / "test").is_dir() and (unknown := pictures_in(place / "test").pictures):
        notes.append(f"the {len(unknown)} pictures of {place / 'test'} have no labels and are passed over.")
    return assemble(folder.resolve().name, parts, notes)


def _labelled(paths: Sequence[Path], said: Mapping[int, str], names: tuple[str, ...]) -> Part:
    labels, numbers = [], {name: i for i, name in enumerate(names)}
    for path in paths:
        named = NAMED.match(path.stem)
        if named is None or int(named.group(1)) not in said:
            raise InputError(f"data: no file says the class of {path}; remove it, or give it a name of the devkit's.")
        labels.append(numbers[said[int(named.group(1))]])
    return Part(Files(paths), torch.tensor(labels), names)


def validation_classes(place: Path) -> dict[int, str]:
    """The class of each validation picture, by the picture's number.

    Args:
        place: of `train` and `val`.

    Raises:
        InputError: if no file says it, or it cannot be read.
    """
    above = place.parents[: len(PICTURES.parts)] if place.name == PICTURES.name else ()
    for base in (place, *above):
        for file, read in _files(base):
            try:
                return read(file)
            except Exception as error:  # scipy, tarfile and csv raise many kinds for a broken file
                why = f"{type(error).__name__}: {error}"
                raise InputError(f"data: {file} cannot be read ({why}); unpack or download it again.") from error
    raise InputError(
        f"data={str(place)!r}: the pictures of val/ are not in class folders, and no file says their class; put {KIT} "
        f"(or {KIT}.tar.gz), or Kaggle's {SOLUTION}, beside train/ and val/."
    )


def _files(base: Path) -> Iterator[tuple[Path, Callable[[Path], dict[int, str]]]]:
    """The files in a folder that say it, with what reads them."""
    for kit in (base / KIT / "data", base / KIT, base):
        if (kit / TRUTH).is_file():
            yield kit, lambda kit: _of_devkit(lambda name: (kit / name).read_bytes())
    if (base / f"{KIT}.tar.gz").is_file():
        yield base / f"{KIT}.tar.gz", _of_archive
    if (base / SOLUTION).is_file():
        yield base / SOLUTION, _of_solution


def _of_devkit(read: Callable[[str], bytes]) -> dict[int, str]:
    synsets = loadmat(io.BytesIO(read(META)), squeeze_me=True)["synsets"]
    names = {int(s["ILSVRC2012_ID"]): str(s["WNID"]) for s in synsets if int(s["num_children"]) == 0}
    return {number: names[int(line)] for number, line in enumerate(read(TRUTH).split(), 1)}


def _of_archive(file: Path) -> dict[int, str]:
    with tarfile.open(file) as archive:
        files = {Path(entry.name).name: entry for entry in archive if Path(entry.name).name in (TRUTH, META)}

        def read(name: str) -> bytes:
            content = archive.extractfile(files[name])
            return content.read() if content else b""

        return _of_devkit(read)


def _of_solution(file: Path) -> dict[int, str]:
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    return {int(row["ImageId"].rpartition("_")[2]): row["PredictionString"].split()[0] for row in rows}
