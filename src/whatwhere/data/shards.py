"""Tar shards, as WebDataset writes them: the files of a picture lie side by side and share a name up to its first dot.

Shards are looked through once, by their headers; pictures are then read from where they lie, in any order, so that a
pass is as exact as over files. Four numbers are kept for each picture.
"""

from __future__ import annotations

import json
import re
import tarfile
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from whatwhere.data.contents import MOST_SIZES, evenly, of_sizes
from whatwhere.data.listing import files_near, is_hidden, is_picture, picture_endings, subfolders
from whatwhere.data.parts import Data, Part, assemble
from whatwhere.data.pixels import Piece, Raw
from whatwhere.data.split_names import SPLITS, split_name
from whatwhere.errors import InputError

COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
NAMES = ("classnames.txt", "classes.txt")  # a class on each line
LABEL = ("label", "cls", "class", "fine_label")  # in a .json
BLOCK = 512  # of a tar file
RECORD = 20  # blocks that archives are padded to
LARGEST = 2048  # blocks of the largest records that GNU tar writes in practice (1 MiB)

Group: TypeAlias = dict[str, tarfile.TarInfo]
"""The files that share a name, by what follows its first dot."""


def holds_shards(folder: Path) -> bool:
    """Whether a folder, or each folder in it, holds tar files and no pictures."""
    files = files_near(folder)
    tars = [path.parent for path in files if path.name.endswith((".tar", *COMPRESSED))]
    return bool(tars) and {*subfolders(folder)} <= {*tars} and not any(map(is_picture, files))


def from_shards(folder: Path) -> Data:
    """Load a folder of tar shards; their names, or those of folders they are in, say the split.

    Raises:
        InputError: for compressed shards, pictures without a label beside pictures with one, or a broken shard.
    """
    files = files_near(folder)
    if packed := [path for path in files if path.name.endswith(COMPRESSED)]:
        raise InputError(
            f"data: {packed[0]} is compressed, and pictures are read from the middle of a shard; unpack it to a .tar, "
            "for example by gunzip."
        )
    shards: dict[str, list[Path]] = {}
    for path in files:
        if path.suffix == ".tar":
            shards.setdefault(_split_of(path.relative_to(folder)), []).append(path)
    listed = next((folder / name for name in NAMES if (folder / name).is_file()), None)
    classes = tuple(listed.read_text().splitlines()) if listed else None
    found = {split: _looked_through(paths) for split, paths in shards.items()}
    parts = {split: Part(Members(shards[split], each), _labels(each, split), classes) for split, each in found.items()}
    return assemble(folder.resolve().name, parts, [note for each in found.values() for note in each.notes])


def _split_of(path: Path) -> str:
    """The split that a shard's name or folder holds: "imagenet1k-train-0000.tar" is of "train"."""
    words = [word for part in reversed(path.parts) for word in re.split(r"[^a-z]+", part.lower())]
    return split_name(next((word for word in words if word in SPLITS), "test")) or "test"


@dataclass
class Index:
    """Where the pictures of some shards lie, and what they show.

    Attributes:
        shards: number of the shard of each.
        starts: of its content in the shard, in bytes.
        sizes: in bytes.
        labels: of each; -1 where there is none.
        other: how many groups of files hold no picture.
    """

    shards: array[int] = field(default_factory=lambda: array("l"))
    starts: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))
    labels: array[int] = field(default_factory=lambda: array("q"))
    other: int = 0

    def add(self, shard: int, picture: tarfile.TarInfo | None, label: int | None) -> None:
        """A group of files that share a name."""
        if picture is None:
            self.other += 1
            return
        self.shards.append(shard)
        self.starts.append(picture.offset_data)
        self.sizes.append(picture.size)
        self.labels.append(-1 if label is None else label)

    @property
    def notes(self) -> list[str]:
        """What the reader must know."""
        said = f"{self.other} groups of files hold no picture that Pillow reads and are passed over."
        return [said] if self.other else []


def _looked_through(paths: Sequence[Path]) -> Index:
    index = Index()
    for number, path in enumerate(paths):
        try:
            for group, said in _groups(path):
                index.add(number, _picture(path, group), _label(path, group, said))
        except InputError:
            raise
        except (tarfile.TarError, ValueError, KeyError, UnicodeDecodeError) as error:
            raise InputError(f"data: {path} cannot be read ({error}); write or download it again.") from error
    return index


def _picture(path: Path, group: Group) -> tarfile.TarInfo | None:
    """The picture of a group: `0001.jpg` before `0001.depth.png`; None if it has none.

    Raises:
        InputError: if it may be one or another.
    """
    endings = tuple(picture_endings())
    all_of_them = {ending: member for ending, member in group.items() if f".{ending}".endswith(endings)}
    plain = [member for ending, member in all_of_them.items() if "." not in ending]
    found = plain or [*all_of_them.values()]
    if len(found) > 1:
        raise InputError(
            f"data: {path}: {' and '.join(m.name for m in found)} belong together, and each may be the picture; write "
            "the shard with one of them, or give the others a name with one more dot, such as NAME.depth.png beside "
            "NAME.jpg."
        )
    return found[0] if found else None


def _groups(path: Path) -> Iterator[tuple[Group, dict[str, bytes]]]:
    """The files of each picture by ending, and the content of those that hold its label."""
    group: Group = {}
    key, said = "", dict[str, bytes]()
    with tarfile.open(path, "r:") as shard:
        while (member := shard.next()) is not None:
            shard.members.clear()  # type: ignore[attr-defined]  # else it keeps every header
            if not member.isfile() or is_hidden(Path(member.name).name):
                continue
            name, ending = _parted(member.name)
            if name != key and group:
                yield group, said
                group, said = {}, {}
            key = name
            group[ending] = member
            if ending in ("cls", "json"):
                content = shard.extractfile(member)
                said[ending] = content.read() if content else b""
        _check_end(path, shard.offset)
    if group:
        yield group, said


def _check_end(path: Path, end: int) -> None:
    """Refuse a shard that goes on where no file begins: such a block ends an archive, and files behind it are lost.

    What remains of a sound one is zeros: two blocks, and what pads them to a record, whose size its writer chose. A
    larger record than usual shows in the size of the file, of which it is a divisor. A download that was given its
    place and then broke off ends in zeros too, in more of them if it lacks more than such a record (1 MiB at most).

    Raises:
        ReadError: saying where.
    """
    size = path.stat().st_size
    rest = size - end
    records = (RECORD, *(n for n in range(RECORD, LARGEST + 1) if size % (n * BLOCK) == 0))
    if rest <= (max(records) + 2) * BLOCK and not any(Piece(path, end, rest).content()):
        return
    raise tarfile.ReadError(f"no file begins at byte {end}, and the {rest} bytes from there on are no mere padding")


def _parted(name: str) -> tuple[str, str]:
    folder, slash, file = name.rpartition("/")
    stem, _, ending = file.partition(".")
    return folder + slash + stem, ending.lower()


def _label(path: Path, group: Group, said: Mapping[str, bytes]) -> int | None:
    if "cls" in said:
        try:
            return int(said["cls"])
        except ValueError as error:
            held = said["cls"].decode(errors="replace").strip()[:40]
            raise InputError(
                f"data: {path} cannot be read ({group['cls'].name} holds {held!r}): a .cls must hold the number of a "
                f"class, such as 0; write numbers, and the classes' names, in their order, to {NAMES[0]} beside the "
                "shards."
            ) from error
    about: Any = json.loads(said["json"]) if "json" in said else {}
    found = next((about[name] for name in LABEL if name in about), None) if isinstance(about, dict) else None
    return found if isinstance(found, int) else None


def _labels(index: Index, split: str) -> Tensor:
    labels = torch.from_numpy(np.array(index.labels, dtype=np.int64))
    without = int((labels < 0).sum())
    if 0 < without < len(labels):
        raise InputError(
            f"data: {without} of {len(labels)} pictures of split {split!r} have no label (.cls, or {LABEL[0]!r} in "
            ".json); give each one, or none."
        )
    return labels


class Members:
    """Pictures in tar files."""

    def __init__(self, paths: Sequence[Path], index: Index) -> None:
        self.paths = list(paths)
        self.shards, self.starts, self.sizes = (np.array(a) for a in (index.shards, index.starts, index.sizes))

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.starts)

    def read(self, rows: Sequence[int]) -> list[Raw]:
        """Where the pictures lie; what decodes them reads them."""
        return [self._piece(row) for row in rows]

    def place(self, row: int) -> str:
        """The row, and the file in the shard."""
        piece = self._piece(row)
        header = Piece(piece.path, piece.start - BLOCK, BLOCK).content()
        name = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape").name
        return f"row {row} ({name} in {piece.path})"

    def told(self, rows: Sequence[int]) -> Iterable[bytes]:
        """The sizes of the pictures, which are known."""
        return of_sizes(int(self.sizes[row]) for row in evenly(rows, MOST_SIZES))

    def _piece(self, row: int) -> Piece:
        return Piece(self.paths[self.shards[row]], int(self.starts[row]), int(self.sizes[row]))
