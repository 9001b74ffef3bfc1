"""Downsampled ImageNet [chrabaszcz2017]: pictures of 8 to 64 px in files of NumPy's, read from the disk row by row.

Files are `train_data_batch_1.npz`, ..., and `val_data.npz`, each with `data` (N, 3·S·S) and `labels` from 1. Their
pickled twins would run code on reading, and are refused.
"""

from __future__ import annotations

import math
import re
import shlex
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whatwhere.data.contents import MOST_READ, WHOLE, evenly
from whatwhere.data.listing import files_near
from whatwhere.data.memory import memory_budget
from whatwhere.data.parts import Data, Part, assemble
from whatwhere.data.pixels import Raw
from whatwhere.errors import InputError

NAMED = re.compile(r"(train_data_batch_\d+|val_data)$")
NAMES = "map_clsloc.txt"  # lines "n02119789 1 kit_fox"
CONVERSION = """python -c 'import sys, numpy as np; from pickle import load
for f in sys.argv[1:]: d = load(open(f, "rb")); np.savez(f, data=d["data"], labels=np.array(d["labels"]))' """


def holds_downsampled(folder: Path) -> bool:
    """Whether a folder, or a folder in it, holds files of downsampled ImageNet, pickled ones included."""
    return any(_files(folder))


def _files(folder: Path) -> list[Path]:
    files = [path for path in files_near(folder) if NAMED.match(path.name.removesuffix(".npz"))]
    return sorted(files, key=lambda path: [int(n) for n in re.findall(r"\d+", path.stem)] or [0])


def from_downsampled(folder: Path) -> Data:
    """Load downsampled ImageNet; the classes are synsets, sorted, where `map_clsloc.txt` is there, else numbers.

    Raises:
        InputError: for pickled files, or files that hold something else.
    """
    files = _files(folder)
    if pickled := [path for path in files if path.suffix != ".npz" and not path.with_name(f"{path.name}.npz").exists()]:
        names = shlex.join(str(path) for path in pickled)
        raise InputError(
            f"data={str(folder)!r} holds {pickled[0].name}, a pickle, and reading it would run any code in it; "
            f"download the npz distribution. If you trust where it is from, write that yourself:\n{CONVERSION}{names}"
        )
    files = [path for path in files if path.suffix == ".npz"]
    opened = {name: [_opened(p) for p in files if p.name.startswith(name)] for name in ("train", "val")}
    labels = {name: torch.cat([y for _, y in some]) for name, some in opened.items() if some}
    classes, place, notes = _classes(folder, files, [*labels.values()])
    shown = {name: Part(Arrays([p for p, _ in opened[name]]), place[y], classes) for name, y in labels.items()}
    return assemble(folder.resolve().name, shown, notes)


def _classes(
    folder: Path, files: Sequence[Path], labels: Sequence[Tensor]
) -> tuple[tuple[str, ...], Tensor, list[str]]:
    """The names of the classes, the label of each number in the files, and notes."""
    low, high = min(int(y.min()) for y in labels), max(int(y.max()) for y in labels)
    listed = next((p for p in (folder / NAMES, *(file.parent / NAMES for file in files)) if p.is_file()), None)
    first = min(low, 1)
    if listed is None:
        names = tuple(str(number) for number in range(first, high + 1))
        note = f"no {NAMES} says what the labels mean: classes are their numbers, in the order of the files."
        return names, torch.arange(high + 1) - first, [note]
    synsets = {int(line.split()[1]): line.split()[0] for line in listed.read_text().splitlines() if line.strip()}
    if low < 1 or not {*range(1, high + 1)} <= {*synsets}:
        raise InputError(f"data: {listed} names the labels 1 to {len(synsets)}, and the files hold {low} to {high}.")
    names = tuple(sorted(synsets.values()))
    place = torch.zeros(max(synsets) + 1, dtype=torch.int64)
    for number, synset in synsets.items():
        place[number] = names.index(synset)
    return names, place, []


def _opened(path: Path) -> tuple[np.ndarray[Any, Any], Tensor]:
    """The pixels (N, 3, S, S) and labels (N,) of a file.

    Raises:
        InputError: if it holds something else.
    """
    try:
        labels = np.load(path, allow_pickle=False)["labels"]
        pixels = _mapped(path) if _stored(path) else _unpacked(path)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"data: {path} cannot be read ({error}); it must hold arrays `data` and `labels`.") from error
    side = math.isqrt(pixels.shape[1] // 3) if pixels.ndim == 2 else 0
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != 3 * side**2 or len(labels) != len(pixels):
        raise InputError(
            f"data: {path} holds data {pixels.shape} of {pixels.dtype} and {len(labels)} labels; expected (N, 3·S·S) "
            "of uint8 and N."
        )
    if labels.dtype.kind not in "iu":
        raise InputError(f"data: {path} holds labels of {labels.dtype}; expected whole numbers.")
    return pixels.reshape(-1, 3, side, side), torch.from_numpy(labels.astype(np.int64))


def _stored(path: Path) -> bool:
    """Whether the pixels are not compressed."""
    with zipfile.ZipFile(path) as archive:
        return archive.getinfo("data.npy").compress_type == zipfile.ZIP_STORED


def _mapped(path: Path) -> np.ndarray[Any, Any]:
    """The pixels as they lie in the file, of which the system reads what is looked at."""
    with zipfile.ZipFile(path) as archive, archive.open("data.npy") as member:
        version = np.lib.format.read_magic(member)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = header(member)
        within = member.tell()
        if dtype.hasobject:
            raise ValueError("its data are Python objects, which would have to be unpickled")
        start = _start(path, archive.getinfo("data.npy")) + within
    return np.memmap(path, dtype, "r", start, shape, "F" if fortran else "C")


def _start(path: Path, member: zipfile.ZipInfo) -> int:
    """Where the content of a member begins in the archive: behind its own header, whose last fields may differ."""
    with path.open("rb") as file:
        file.seek(member.header_offset + 26)
        sizes = file.read(4)
    return member.header_offset + 30 + int.from_bytes(sizes[:2], "little") + int.from_bytes(sizes[2:], "little")


def _unpacked(path: Path) -> np.ndarray[Any, Any]:
    """The pixels of a compressed file, in memory.

    Raises:
        InputError: if they do not fit.
    """
    with zipfile.ZipFile(path) as archive:
        size = archive.getinfo("data.npy").file_size
    if size > memory_budget():
        raise InputError(
            f"data: {path} is compressed and holds {size / 2**30:.1f} GiB, more than memory allows; write it again "
            f'without compression, which is read row by row: python -c \'import numpy as np; np.savez("NEW.npz", '
            f'**np.load("{path}"))\''
        )
    unpacked: np.ndarray[Any, Any] = np.load(path, allow_pickle=False)["data"]
    return unpacked


class Arrays:
    """Pictures of one size in arrays (N, 3, S, S), one after the other."""

    def __init__(self, arrays: Sequence[np.ndarray[Any, Any]]) -> None:
        self.arrays = list(arrays)
        self.ends = np.cumsum([len(array) for array in self.arrays])

    def __len__(self) -> int:
        """Number of pictures."""
        return int(self.ends[-1])

    def read(self, rows: Sequence[int]) -> list[Raw]:
        """Copies of the pictures, each (3, S, S)."""
        return [torch.from_numpy(np.array(self._pixels(row))) for row in rows]

    def place(self, row: int) -> str:
        """The row."""
        return f"row {row}"

    def told(self, rows: Sequence[int]) -> Iterable[bytes]:
        """The pixels, which lie in files: of all pictures if they are small together, else of 1,000."""
        small = sum(array.nbytes for array in self.arrays) <= WHOLE
        return (self._pixels(row).tobytes() for row in evenly(rows, len(rows) if small else MOST_READ))

    def _pixels(self, row: int) -> np.ndarray[Any, Any]:
        i = int(np.searchsorted(self.ends, row, side="right"))
        pixels: np.ndarray[Any, Any] = self.arrays[i][row - int(self.ends[i - 1] if i else 0)]
        return pixels
