"""The four data sets behind Broden+, each in its own layout: where a row's files are and how they say labels.

Facts from the scripts of the unifiedparsing repository (`broden_dataset_utils`), see `whatwhere.say.studies.broden`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from whatwhere.data.pixels import BROKEN
from whatwhere.errors import InputError, unknown

Whole: TypeAlias = NDArray[np.int64]
BROKEN_MAT = (*BROKEN, MatReadError, IndexError, NotImplementedError)  # the last for files of MATLAB 7.3

# Short part names of PASCAL-Part that its part2ind.m explains nowhere.
SHORT_PARTS = {
    "lfho": "left front hoof",
    "rfho": "right front hoof",
    "lbho": "left back hoof",
    "rbho": "right back hoof",
    "fwheel": "front wheel",
    "bwheel": "back wheel",
    "frontside": "front side",
    "leftside": "left side",
    "rightside": "right side",
    "backside": "back side",
    "roofside": "roof side",
    "leftmirror": "left mirror",
    "rightmirror": "right mirror",
}
POSITIONS = {"left", "right", "front", "back", "upper", "lower", "side"}  # Broden+ merges parts that differ in these


class Assignment:
    """Which Broden+ label a data set's own label becomes, from `label_assignment.csv`; 0 is none."""

    def __init__(self, file: Path) -> None:
        """Read the table.

        Raises:
            InputError: it is missing, or lacks a column.
        """
        self.file = file
        self.labels: dict[tuple[str, str], dict[int, int]] = {}
        self.by_name: dict[tuple[str, str], dict[str, int]] = {}
        for row in read_rows(file, ("dataset", "category", "raw_label", "raw_name", "broden_label")):
            key = (row["dataset"], row["category"])
            self.labels.setdefault(key, {})[int(row["raw_label"])] = int(row["broden_label"])
            self.by_name.setdefault(key, {})[row["raw_name"]] = int(row["broden_label"])

    def __call__(self, dataset: str, category: str, raw: Whole, file: Path) -> Whole:
        """Translate a map of a data set's own labels.

        Raises:
            InputError: a label beyond the last one of the table; the message names the file.
        """
        labels = self.labels.get((dataset, category), {})
        table = np.zeros(max(labels, default=0) + 1, dtype=np.int64)
        table[list(labels)] = list(labels.values())
        if raw.max(initial=0) >= len(table):
            raise InputError(
                f"{file} holds the {category} {raw.max()}, but {self.file} knows labels of {dataset} up to "
                f"{len(table) - 1}; take both from the same release."
            )
        return table[raw]


class BrodenSet(Protocol):
    """One data set, by its own row numbers."""

    def __len__(self) -> int:
        """Number of rows."""
        ...

    def picture(self, row: int) -> Path:
        """The picture's file."""
        ...

    def maps(self, row: int) -> dict[str, Whole]:
        """The maps that it annotates, (H, W) each, of Broden+ labels, 0 for none; textures from 1 as well."""
        ...


class Ade20k:
    """ADE20K: objects and first-level parts, in the red and green channels of PNG files."""

    def __init__(self, folder: Path, meta: Path, assign: Assignment) -> None:
        """Read the index, a MATLAB file.

        Raises:
            InputError: it is missing or another file.
        """
        self.folder, self.assign = folder, assign
        file = first_file(meta / "ade20k/index_ade20k.mat", folder / "ADE20K_2016_07_26/index_ade20k.mat")
        index = read_mat(file, "index")
        self.files = [str(name) for name in np.atleast_1d(index["filename"][()])]
        self.folders = [str(name) for name in np.atleast_1d(index["folder"][()])]

    def __len__(self) -> int:
        """Number of pictures in the index."""
        return len(self.files)

    def picture(self, row: int) -> Path:
        """`<folder>/<name>.jpg`."""
        return self.folder / self.folders[row] / self.files[row]

    def maps(self, row: int) -> dict[str, Whole]:
        """`_seg.png` for objects and, if there, `_parts_1.png` for parts."""
        stem = str(self.picture(row).with_suffix(""))
        seg, parts = Path(f"{stem}_seg.png"), Path(f"{stem}_parts_1.png")
        found = {"object": self.assign("ade20k", "object", coded(read_channels(seg)), seg)}
        if parts.is_file():
            found["part"] = self.assign("ade20k", "part", coded(read_channels(parts)), parts)
        return found


def coded(pixels: Whole) -> Whole:
    """(H, W, 3) of ADE20K -> (H, W): tens of red are high bytes, green is the low byte, blue counts instances."""
    return pixels[..., 0] // 10 * 256 + pixels[..., 1]


class Pascal:
    """PASCAL-Context objects and PASCAL-Part parts, in MATLAB files."""

    def __init__(self, folder: Path, meta: Path, assign: Assignment) -> None:
        """List the annotations: a row number counts the files of `part/Annotations_Part`, sorted.

        Raises:
            InputError: the file that explains the part names is missing.
        """
        self.folder, self.assign = folder, assign
        self.files = sorted((folder / "part" / "Annotations_Part").glob("*.mat"))
        source = first_file(folder / "part" / "part2ind.m", meta / "pascal" / "part2ind.m")
        self.long_names = SHORT_PARTS | long_part_names(source.read_text(encoding="utf-8"))

    def __len__(self) -> int:
        """Number of part annotations."""
        return len(self.files)

    def picture(self, row: int) -> Path:
        """`VOC2010/JPEGImages/<name>.jpg`."""
        return self.folder / "VOC2010" / "JPEGImages" / f"{self.files[row].stem}.jpg"

    def maps(self, row: int) -> dict[str, Whole]:
        """Objects of the scene, and the parts of the annotated instances, later ones on top."""
        file = self.folder / "context" / "trainval" / self.files[row].name
        raw = np.asarray(read_mat(file, "LabelMap"), dtype=np.int64)
        objects = self.assign("pascal", "object", raw, file)
        return {"object": objects, "part": self._parts(self.files[row], objects.shape)}

    def _parts(self, file: Path, shape: tuple[int, ...]) -> Whole:
        labels = np.zeros(shape, dtype=np.int64)
        for instance in instances(read_mat(file, "anno")):
            for part in instances(instance["parts"]):
                mask = np.asarray(part["mask"], dtype=bool)
                if mask.shape != shape:
                    raise InputError(f"{file}: a part is {mask.shape} (H, W), its scene {shape}; take one release.")
                labels[mask] = self._label(str(part["part_name"]), file)
        return labels

    def _label(self, short: str, file: Path) -> int:
        short = re.sub(r"_\d+$", "", short)  # engine_3 is an engine
        words = self.long_names.get(short, short).split()
        known = self.assign.by_name.get(("pascal", "part"), {})
        name = " ".join(word for word in words if word not in POSITIONS)
        if name and name not in known:
            raise unknown(f"{file}: part", name, known)
        return known.get(name, 0)


def long_part_names(source: str) -> dict[str, str]:
    """The part names that comments of part2ind.m spell out, by their short names."""
    single = re.findall(r"\('(\w+)'\)\s*=\s*\d+;\s*%\s*(\w[\w ]*\w)", source)
    counted = re.findall(r"sprintf\('(\w+)_%d'[^;]*;\s*%\s*(\w[\w ]*\w)", source)
    return {short: name for short, name in single + counted if "multiple" not in name}


def instances(found: Any) -> list[Any]:
    """The entries of a MATLAB struct array, which is a record where it has one and empty where it has none."""
    found = np.atleast_1d(found)
    if found.dtype.names and "objects" in found.dtype.names:
        return instances(found[0]["objects"])
    return [entry for entry in found.ravel() if found.dtype.names]


class OpenSurfaces:
    """OpenSurfaces: materials, in the red channel of PNG files."""

    def __init__(self, folder: Path, assign: Assignment) -> None:
        """Read `photos.csv`, whose rows are the row numbers.

        Raises:
            InputError: it is missing or another file.
        """
        self.folder, self.assign = folder, assign
        self.photos = [row["photo_id"] for row in read_rows(folder / "photos.csv", ("photo_id",))]

    def __len__(self) -> int:
        """Number of photos."""
        return len(self.photos)

    def picture(self, row: int) -> Path:
        """`photos/<id>.jpg`."""
        return self.folder / "photos" / f"{self.photos[row]}.jpg"

    def maps(self, row: int) -> dict[str, Whole]:
        """`photos-labels/<id>.png`; rendered at another size than the photo, see `fitted`."""
        file = self.folder / "photos-labels" / f"{self.photos[row]}.png"
        labels = fitted(read_channels(file)[..., 0], self.picture(row), file)
        return {"material": self.assign("os", "material", labels, file)}


def fitted(labels: Whole, picture: Path, file: Path) -> Whole:
    """A map resized to its picture by nearest neighbour: those of OpenSurfaces are drawn 1024 pixels high.

    Raises:
        InputError: the proportions differ by more than 1 %.
    """
    width, height = picture_size(picture)
    tall, wide = labels.shape
    if abs(wide * height - width * tall) > 0.01 * width * tall:
        raise InputError(
            f"{file} is {(tall, wide)} (H, W), its picture {(height, width)}: other proportions; resize both alike."
        )
    rows, columns = (2 * np.arange(height) + 1) * tall // (2 * height), (2 * np.arange(width) + 1) * wide // (2 * width)
    return labels[rows[:, None], columns]


class Textures:
    """DTD: one texture for a whole picture, by its folder's name."""

    def __init__(self, folder: Path, meta: Path, names: tuple[str, ...]) -> None:
        """Read the list of pictures, whose lines are the row numbers.

        Raises:
            InputError: it is missing, or names a texture that is not in `names`.
        """
        self.folder, self.names = folder / "dtd-r1.0.1" / "images", names
        file = first_file(meta / "dtd/labels_joint_anno.txt", folder / "dtd-r1.0.1/labels/labels_joint_anno.txt")
        lines = file.read_text(encoding="utf-8").splitlines()
        self.pictures = [line.split()[0] for line in lines if line.strip()]
        for name in {picture.split("/")[0] for picture in self.pictures}:
            if name not in names:
                raise unknown(f"{file}: texture", name, names)

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.pictures)

    def picture(self, row: int) -> Path:
        """`dtd-r1.0.1/images/<texture>/<name>.jpg`."""
        return self.folder / self.pictures[row]

    def maps(self, row: int) -> dict[str, Whole]:
        """The main texture, everywhere; further textures that DTD names for the picture are left out."""
        label = self.names.index(self.pictures[row].split("/")[0]) + 1
        width, height = picture_size(self.picture(row))
        return {"texture": np.full((height, width), label, dtype=np.int64)}


def first_file(*candidates: Path) -> Path:
    """The first of some files that is there.

    Raises:
        InputError: none is.
    """
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise InputError(f"{' or '.join(map(str, candidates))} is missing; copy it from the unifiedparsing repository.")


def read_rows(file: Path, columns: tuple[str, ...]) -> list[Mapping[str, str]]:
    """A CSV file as rows by column.

    Raises:
        InputError: the file or a column is missing.
    """
    with first_file(file).open(encoding="utf-8", newline="") as opened:
        reader = csv.DictReader(opened)
        missing = [column for column in columns if column not in (reader.fieldnames or ())]
        if missing:
            raise InputError(f"{file} has no column {' and '.join(missing)}; it has {reader.fieldnames}.")
        return list(reader)


def read_channels(file: Path) -> Whole:
    """A PNG of label codes, (H, W, 3).

    Raises:
        InputError: it cannot be read, or has one channel.
    """
    try:
        with Image.open(file) as picture:
            pixels = np.array(picture, dtype=np.int64)
    except BROKEN as error:
        raise InputError(f"{file} cannot be read ({error}); unpack it again.") from error
    if pixels.ndim != 3:
        raise InputError(f"{file} has one channel; its labels are in red and green: take the original file.")
    return pixels


def picture_size(file: Path) -> tuple[int, int]:
    """(width, height) of a picture, from its header.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with Image.open(file) as picture:
            return picture.size
    except BROKEN as error:
        raise InputError(f"{file} cannot be read ({error}); unpack it again.") from error


def read_mat(file: Path, name: str) -> Any:
    """A variable of a MATLAB file, its one-element dimensions dropped.

    Raises:
        InputError: the file is missing or cannot be read, or has no such variable.
    """
    try:
        variables = loadmat(file, squeeze_me=True)
    except BROKEN_MAT as error:
        raise InputError(f"{file} cannot be read ({type(error).__name__}: {error}); unpack it again.") from error
    if name not in variables:
        raise InputError(f"{file} has no variable {name!r}; take the original file.")
    return variables[name]
