"""Networks from the folders that `ww.save` writes: made again as config.json says, with weights.safetensors inside.

No code is read from a folder: its config names a network as `load_model` takes it, and surgeries of a closed list. A
network of the user's own is made by calling `package.module:function`, which must be there.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from dacite import Config as How
from dacite import DaciteError, from_dict
from torch import Tensor, nn

from whatwhere import __version__
from whatwhere.errors import InputError
from whatwhere.files import read_json
from whatwhere.fingerprints import architecture, fingerprint
from whatwhere.imported import is_import_path
from whatwhere.models.built import build, is_of_a_library
from whatwhere.models.weights import read_tensors
from whatwhere.network import Base, Network, Preprocessing
from whatwhere.surgery import redone

CONFIG, WEIGHTS = "config.json", "weights.safetensors"
FORMAT, SCHEMA = "whatwhere network", 1
PACKAGES = ("torch", "torchvision", "timm")
WEIGHT_FILES = (".safetensors", ".pt", ".pth")
AGAIN = "save the network again"


def versions() -> dict[str, str]:
    """Of the packages that decide which layers a network has."""
    return {"whatwhere": __version__, **{p: metadata.version(p) for p in PACKAGES}}


@dataclass(frozen=True, kw_only=True)
class Config:
    """What config.json says: how to make a network again.

    Attributes:
        format: tells the file from others of its name.
        schema: of these entries.
        written_by: who wrote it.
        versions: that it was written by.
        name: of the network, in reports.
        base: what `load_model` made.
        surgery: what was done to it since, in order; as by `surgeries`.
        preprocessing: what its input must look like.
        input_size: (C, H, W) of one input.
        classes: names of the scores; empty where they are not known.
        drawn: as of `Network`.
        partial: as of `Network`.
        channels_last: whether its kernels lie so in memory, which decides the last bits of what it computes.
        layers: the fingerprint of the layers.
        fingerprint: of the weights.
    """

    format: str = FORMAT
    schema: int = SCHEMA
    written_by: str
    versions: dict[str, str] = field(default_factory=versions)
    name: str
    base: Base
    surgery: tuple[dict[str, Any], ...]
    preprocessing: Preprocessing
    input_size: tuple[int, int, int] | None
    classes: tuple[str, ...]
    drawn: str
    partial: str
    channels_last: bool
    layers: str
    fingerprint: str

    @staticmethod
    def read(folder: Path) -> Config:
        """Of a folder.

        Raises:
            InputError: if it was written by a newer version, or is damaged.
        """
        file, plain = folder / CONFIG, read_json(folder / CONFIG, remedy=AGAIN)
        if isinstance(plain, dict) and isinstance(schema := plain.get("schema"), int) and schema > SCHEMA:
            raise InputError(
                f"{file} has schema {schema} (written with {_listed(plain.get('versions'))}), and whatwhere "
                f"{__version__} reads up to {SCHEMA}: update whatwhere."
            )
        try:
            made: Config = from_dict(Config, plain, How(cast=[tuple], type_hooks={float: float}))
        except (DaciteError, InputError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{file} is damaged ({' '.join(str(error).split())}); {AGAIN}.") from error
        if not all({"do", "options"} <= record.keys() for record in made.surgery):
            raise InputError(f"{file} is damaged (surgery without do and options); {AGAIN}.")
        return made

    def network(self, tensors: Mapping[str, Tensor]) -> Network:
        """The network with its weights, in evaluation mode; no library's weights are downloaded.

        Raises:
            InputError: if it has other layers or weights than the one that was saved.
        """
        net = self._without_weights(self.base.seed, self.surgery)
        self._fill(net.module, tensors)
        return replace(net, drawn=self.drawn, partial=self.partial)

    def fresh(self, seed: int) -> Network:
        """The same layers with weights drawn from a seed, those of its surgeries too."""
        again = [_seeded(record, seed) for record in self.surgery]
        net = self._without_weights(seed, again)
        return replace(net, drawn=fingerprint(net.module))

    def _without_weights(self, seed: int, records: Iterable[Mapping[str, Any]]) -> Network:
        base = self.base
        made = build(base.name, classes=base.classes, width=base.width, seed=seed, layers_of_pretrained=base.pretrained)
        net = redone(made, records)
        net.module.eval()
        own: dict[str, Any] = {"name": self.name, "input_size": self.input_size, "classes": self.classes, "base": base}
        return replace(net, preprocessing=self.preprocessing, **own)

    def _fill(self, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
        """Put the weights into a module that was made again, and see that it is the one they came from."""
        own: dict[str, Tensor] = module.state_dict()
        if differing := [n for n in {**own, **tensors} if _shape(n, own) != _shape(n, tensors)]:
            name, versions = differing[0], self._then_and_now()
            raise InputError(
                f"its weights do not fit: {name} is {_shape(name, tensors)} among them, and {_shape(name, own)} in the "
                f"network that {self.base.name} and its surgery make{versions}."
            )
        module.to(next((t.dtype for t in tensors.values() if t.is_floating_point()), torch.float32))
        for name, tensor in module.state_dict(keep_vars=True).items():
            tensor.data = tensor.data.to(tensors[name].dtype)  # where precisions are mixed
        if self.channels_last:
            module.to(memory_format=torch.channels_last)
        module.load_state_dict(tensors)
        if fingerprint(module) != self.fingerprint:
            raise InputError(f"{WEIGHTS} is not the file that {CONFIG} was written with; {AGAIN}.")
        self._check_layers(module)

    def _check_layers(self, module: nn.Module) -> None:
        if architecture(module) == self.layers:
            return
        if not (changed := self._then_and_now()):
            raise InputError(
                f"its weights fit, and yet {self.base.name} and its surgery make other layers now (padding, strides or "
                f"activations); {AGAIN}."
            )
        warnings.warn(f"{self.name}: layers are described otherwise{changed}; evaluate it again.", stacklevel=2)

    def _then_and_now(self) -> str:
        """Versions that differ."""
        now = versions()
        then = {p: v for p, v in self.versions.items() if now.get(p, v) != v}
        return f" (saved with {_listed(then)}; now {_listed({p: now[p] for p in then})})" if then else ""


def _listed(found: Any) -> str:
    return ", ".join(f"{p} {v}" for p, v in found.items()) if isinstance(found, dict) else "unknown versions"


def _shape(name: str, tensors: Mapping[str, Tensor]) -> Any:
    return tuple(tensors[name].shape) if name in tensors else "missing"


def _seeded(record: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """A record of the same surgery, which draws from another seed if it draws at all."""
    options = record["options"]
    return {**record, "options": {**options, "seed": seed} if "seed" in options else options}


def saved_at(name: str) -> Path | None:
    """The folder of a saved network that a name stands for; None for another kind of name.

    Raises:
        InputError: for a path to something that is no such folder.
    """
    path = Path(name).expanduser()
    if not name or (not path.is_dir() and not _is_path(name)):
        return None
    if writer_of(path):
        return path
    if is_of_a_library(name) or is_import_path(name):
        return None
    raise InputError(f"model={name!r} {_missing(path)}")


def _is_path(name: str) -> bool:
    return name.startswith((".", "~", os.sep)) or name.endswith(WEIGHT_FILES)


def _missing(path: Path) -> str:
    """What is wrong with a path, and what to give."""
    if path.is_file():
        return f"is a file; a file of weights goes with a network's name: --model NAME --weights {path}."
    if not path.is_dir():
        return "does not exist; give a folder that ww.save or `whatwhere need collapse` wrote, or a network's name."
    if (path / CONFIG).exists():
        return f"holds a {CONFIG} that whatwhere did not write; give a folder that ww.save wrote, or a network's name."
    weights = next(iter([*path.glob(WEIGHTS), *sorted(path.glob("*.safetensors"))]), None)
    with_name = f"; its weights go with a name: --model NAME --weights {weights}" if weights else ""
    return f"is a folder without {CONFIG}, so that nothing says which network it holds{with_name}."


def writer_of(folder: Path) -> str:
    """Who wrote the network in a folder; "" if there is none of ours."""
    file = folder / CONFIG
    try:
        plain = read_json(file) if file.is_file() else {}
    except InputError:
        return ""
    return str(plain.get("written_by", "?")) if isinstance(plain, dict) and plain.get("format") == FORMAT else ""


def opened(folder: Path, *, fresh: bool = False, seed: int = 0) -> Network:
    """The network that a folder holds, in evaluation mode.

    Args:
        folder: as by `saved_at`.
        fresh: its layers alone, with weights drawn from the seed.
        seed: of fresh weights.

    Raises:
        InputError: if the folder was written by a newer version or is damaged, or this version makes another network.
    """
    config = Config.read(folder)
    try:
        return config.fresh(seed) if fresh else config.network(read_tensors(folder / WEIGHTS))
    except InputError as error:
        raise InputError(f"model={str(folder)!r}: {error}") from error
