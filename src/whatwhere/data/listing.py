"""What a folder of pictures holds: the pictures, and what is passed over and counted."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from PIL import Image

from whatwhere.data.paths import Paths
from whatwhere.errors import InputError

# Left by systems and programs; what starts with a dot is left out as well.
HIDDEN = frozenset(
    ("__macosx", "@eadir", "__pycache__", "lost+found", "$recycle.bin", "#recycle", "system volume information")
) | frozenset(("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"))
# Pillow knows them and reads no pixels of them, or needs another program to do so.
NO_PICTURES = frozenset(("BUFR", "EPS", "FITS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"))
FEW = 32  # folders that are splits, and no classes
SHOWN = 5  # kinds of files, or names, in a note


@cache
def picture_endings() -> frozenset[str]:
    """The endings of the pictures that this installation of Pillow reads, in lower case: ".png", ".avif", ..."""
    Image.init()
    known = Image.registered_extensions().items()
    return frozenset(ending for ending, kind in known if kind in Image.OPEN and kind not in NO_PICTURES)


def is_hidden(name: str) -> bool:
    """Whether a file or folder was left there by a system or program: `.DS_Store`, `._x.jpg`, `__MACOSX`."""
    return name.startswith(".") or name.lower() in HIDDEN


def is_picture(path: Path) -> bool:
    """Whether a file has the name of a picture."""
    return path.suffix.lower() in picture_endings() and not is_hidden(path.name)


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """What a folder holds, sorted by name, without hidden files and folders.

    Raises:
        InputError: if it cannot be read.
    """
    try:
        with os.scandir(folder) as found:
            return sorted((entry for entry in found if not is_hidden(entry.name)), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(
            f"data: folder {str(folder)!r} cannot be read ({error.strerror}); give a folder that you may read."
        ) from error


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one. Costs no look at the disk for what is not a link."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted, without hidden ones."""
    return [Path(entry.path) for entry in entries(folder) if is_folder(entry)]


def files_near(folder: Path) -> list[Path]:
    """The files in a folder, and in its folders where these are few, as tables and shards lie; sorted."""
    folders = subfolders(folder)
    there = [folder, *(folders if len(folders) <= FEW else [])]
    return [Path(entry.path) for place in there for entry in entries(place) if not is_folder(entry)]


@dataclass
class Found:
    """The pictures of a folder, and what else is there.

    Attributes:
        pictures: files that have the name of a picture, sorted; a broken link is one, and is refused when it is read.
        others: other files, counted by their ending.
        links: links to files and folders that are there already.
    """

    pictures: Paths = field(default_factory=Paths)
    others: Counter[str] = field(default_factory=Counter)
    links: list[Path] = field(default_factory=list)
    _listed: list[Path] = field(default_factory=list, repr=False)

    def add(self, file: Path) -> None:
        """Sort a file in."""
        if is_picture(file):
            self._listed.append(file)
        else:
            self.others[file.suffix.lower() or "no ending"] += 1

    def packed(self) -> Found:
        """The same, when all files are sorted in: what was listed are the pictures, in little memory."""
        return Found(Paths(sorted(self._listed)), self.others, self.links)


def pictures_in(folder: Path) -> Found:
    """The pictures directly in a folder."""
    found = Found()
    for entry in entries(folder):
        if not is_folder(entry):
            found.add(Path(entry.path))
    return found.packed()


def pictures_below(folder: Path, known: Set[str] = frozenset()) -> Found:
    """The pictures in a folder and its subfolders. Links are followed, each folder and file is counted once.

    Args:
        folder: to look in.
        known: real paths of folders whose pictures are counted elsewhere; links to them are passed over.
    """
    found, visited, links = Found(), {os.path.realpath(folder), *known}, []
    for entry in _walk(folder, visited, found):
        if entry.is_symlink():
            links.append(Path(entry.path))
        else:
            found.add(Path(entry.path))
    targets: set[str] = set()
    for link in links:
        target = os.path.realpath(link)
        if target in targets or (os.path.dirname(target) in visited and os.path.exists(target)):
            found.links.append(link)
        else:
            targets.add(target)
            found.add(link)
    return found.packed()


def _walk(folder: Path, visited: set[str], found: Found) -> Iterator[os.DirEntry[str]]:
    """The files below a folder; folders are noted as visited, links to what was visited as links."""
    waiting: list[os.DirEntry[str]] = []  # links are followed last: what they lead to may be here as well
    here = folder
    while True:
        for entry in entries(here):
            if not is_folder(entry):
                yield entry
            else:
                waiting.insert(0 if entry.is_symlink() else len(waiting), entry)
        while waiting and _leads_back(waiting[-1], visited):
            found.links.append(Path(waiting.pop().path))
        if not waiting:
            return
        here = Path(waiting.pop().path)
        visited.add(os.path.realpath(here))


def _leads_back(entry: os.DirEntry[str], visited: set[str]) -> bool:
    """Whether a folder was visited, or links to one that holds what was: a circle, perhaps through other classes."""
    real = os.path.realpath(entry.path)
    return real in visited or (entry.is_symlink() and any(v.startswith(os.path.join(real, "")) for v in visited))


def passed_over(where: str, found: Iterable[Found]) -> list[str]:
    """Notes on files that are no pictures, and on links that would count pictures twice.

    Args:
        where: the files are, in words.
        found: in some folders.
    """
    parts = list(found)
    others: Counter[str] = sum((part.others for part in parts), Counter())
    links = [link for part in parts for link in part.links]
    notes = []
    if others:
        kinds = several(f"{ending} ({n})" for ending, n in others.most_common())
        notes.append(f"{others.total()} files of {where} are not read as pictures and passed over: {kinds}.")
    if links:
        names = several(map(str, links))
        notes.append(f"{len(links)} links of {where} lead to what is there already and are passed over: {names}.")
    return notes


def no_splits(folder: Path, others: Iterable[str]) -> list[str]:
    """A note on folders beside the splits that are none."""
    names = several(others)
    return [f"folders of {folder} that are not called like a split are passed over: {names}."] if names else []


def several(names: Iterable[str], shown: int = SHOWN) -> str:
    """Some names with commas, and how many there are in all if not all are shown."""
    listed = list(names)
    return ", ".join(listed[:shown]) + (f", … ({len(listed)} in all)" if len(listed) > shown else "")
