"""Where a study's network and pictures come from: by name, so that other processes load them, or given in this one."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NoReturn

from whatwhere.data import Data
from whatwhere.data.boxes import Boxes
from whatwhere.data.load import load_pictures
from whatwhere.data.load_boxes import holds_boxes, load_boxes
from whatwhere.data.load_scenes import holds_scenes, load_scenes
from whatwhere.data.scenes import Scenes
from whatwhere.errors import InputError
from whatwhere.fingerprints import fingerprint
from whatwhere.imported import is_import_path
from whatwhere.models import hugging_face
from whatwhere.models.detectors import as_network
from whatwhere.models.load import load_model
from whatwhere.models.opened import CONFIG, WEIGHTS
from whatwhere.network import Network, as_module, check_finite

OWN = {"model": " (a network of your own as 'package.module:function', a function that makes it)"}
SAVED = (WEIGHTS, CONFIG, hugging_face.WEIGHTS)  # where a network's name is a folder
MOST_FILES = 20_000  # of which each is looked at; of larger folders their directories are


class Held:
    """Something of this process alone, which no worker can have.

    Args:
        what: the option it was given as, for the error.
        value: it.
    """

    def __init__(self, what: str, value: Any) -> None:
        self.what, self.value = what, value

    def __reduce__(self) -> NoReturn:
        raise InputError(
            f"{self.what} was given as an object, and cells in other processes load what they need by name: give "
            f"{self.what} by name{OWN.get(self.what, '')}, or workers=0 and no engine."
        )


@dataclass(frozen=True)
class GivenData:
    """Pictures, scenes or pictures with boxes by name or folder, or held.

    Attributes:
        source: what `load_data` takes, or `Held`.
    """

    source: str | Held

    @staticmethod
    def of(data: Any) -> GivenData:
        """From what a user gives."""
        return GivenData(os.fspath(data) if isinstance(data, str | os.PathLike) else Held("data", data))

    @cached_property
    def data(self) -> Data:
        """The pictures; cells of one process share them."""
        if isinstance(self.source, Held):
            return load_pictures(self.source.value)
        return pictures_named(self.source, stamp(self.source))

    @cached_property
    def scenes(self) -> Scenes:
        """The scenes; cells of one process share them."""
        if isinstance(self.source, Held):
            return load_scenes(self.source.value)
        return scenes_named(self.source, stamp(self.source))

    @cached_property
    def boxes(self) -> Boxes:
        """The pictures with boxes; cells of one process share them."""
        if isinstance(self.source, Held):
            return load_boxes(self.source.value)
        return boxes_named(self.source, stamp(self.source))

    @property
    def given(self) -> Data | Scenes | Boxes:
        """Whichever of the three it is."""
        source = self.source.value if isinstance(self.source, Held) else self.source
        by_name = isinstance(source, str | os.PathLike)
        if isinstance(source, Boxes) or (by_name and holds_boxes(source)):
            return self.boxes
        named = by_name and holds_scenes(source)
        return self.scenes if named or isinstance(source, Scenes) else self.data

    def __reduce__(self) -> tuple[Any, ...]:
        """Without the pictures."""
        return (GivenData, (self.source,))


@dataclass(frozen=True)
class GivenNetwork:
    """A network by name with its options, or held.

    Attributes:
        source: a network's name, or `Held`.
        options: of `load_model`, as JSON.
        written: when the files of its weights were, in nanoseconds: others are another network.
        expected: the fingerprint of its weights, where a function of the user's makes it: cells need the same network.
    """

    source: str | Held
    options: str = "{}"
    written: int = 0
    expected: str = ""

    @staticmethod
    def of(net: Any, weights: str | None = None, options: Mapping[str, Any] | None = None) -> GivenNetwork:
        """From what a user gives.

        Raises:
            InputError: if `net` is not a name, a module or a Network; for options of named networks beside a module.
        """
        if isinstance(net, str):
            folders = {net, net.removeprefix(hugging_face.FAMILY)}
            files = (os.path.join(os.path.expanduser(folder), name) for folder in folders for name in SAVED)
            written = _written(weights, *files)
            plain = json.dumps({**(options or {}), "weights": weights}, sort_keys=True)
            made = fingerprint(network_named(net, plain, written).module) if is_import_path(net) else ""
            return GivenNetwork(net, plain, written, made)
        given = {"weights": weights, **(options or {})}
        usual = {"weights": None, "classes": None, "pretrained": False, "width": 1.0}
        strange = [name for name, value in given.items() if value != usual[name]]
        if strange:
            raise InputError(f"{' and '.join(strange)}: for a network by name; model was given as a module.")
        check_finite(as_module(net))
        return GivenNetwork(Held("model", net if isinstance(net, Network) else as_network(net)))

    @cached_property
    def net(self) -> Network:
        """The network; cells of one process share it, and nothing changes it."""
        if isinstance(self.source, Held):
            held: Network = self.source.value
            return held
        named = network_named(self.source, self.options, self.written)
        if self.expected and fingerprint(named.module) != self.expected:
            raise InputError(
                f"model={self.source!r} makes a network with other weights in each process, so that cells would "
                "measure different ones; let it draw from torch's generator alone, or load its weights from a file."
            )
        return named

    def __reduce__(self) -> tuple[Any, ...]:
        """Without the network."""
        return (GivenNetwork, (self.source, self.options, self.written, self.expected))


def _written(*files: str | None) -> int:
    """When the last of some files was written, of those that are there; 0 if none is."""
    return max((os.stat(file).st_mtime_ns for file in files if file and os.path.exists(file)), default=0)


def stamp(source: str) -> str:
    """A text that changes when files of a folder are added, removed or written again; "" for what is not a folder."""
    digest, files = hashlib.sha256(), 0
    for folder, _, names in os.walk(Path(source).expanduser()):
        files += len(names)
        seen = [folder, *(os.path.join(folder, n) for n in names)] if files <= MOST_FILES else [folder]
        digest.update(repr([os.stat(path).st_mtime_ns for path in seen if os.path.exists(path)]).encode())
    return digest.hexdigest() if files else ""


@lru_cache(maxsize=2)
def pictures_named(source: str, state: str = "") -> Data:
    """Pictures by name or folder, loaded once for each state of the folder."""
    return load_pictures(source)


@lru_cache(maxsize=2)
def scenes_named(source: str, state: str = "") -> Scenes:
    """Scenes by name or folder, loaded once for each state of the folder."""
    return load_scenes(source)


@lru_cache(maxsize=2)
def boxes_named(source: str, state: str = "") -> Boxes:
    """Pictures with boxes by name or folder, loaded once for each state of the folder."""
    return load_boxes(source)


@lru_cache(maxsize=2)
def network_named(name: str, options: str, written: int = 0) -> Network:
    """A network by name and options, loaded once for each state of its file."""
    return load_model(name, **json.loads(options))


def place(net: Network, device: str) -> Network:
    """A network whose module was moved to a device; `auto` is a GPU where there is one.

    Raises:
        InputError: for a device that is not there.
    """
    import torch

    best = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        net.module.to(best if device == "auto" else device)
    except (RuntimeError, AssertionError) as error:  # torch raises either
        raise InputError(f"device={device!r} cannot be used ({str(error)[:80]}); give 'auto' or 'cpu'.") from error
    return net
