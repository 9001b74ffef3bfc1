"""Commands of this wing that are not studies."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from whatwhere.errors import InputError

if TYPE_CHECKING:
    from whatwhere.network import Network

WROTE = "written by"  # in the file's head
OTHERS = (".pt", ".pth", ".bin", ".ckpt", ".onnx", ".pt2", ".h5", ".json")  # of files that are not written here
FOLDER = """wrote {out}; to go on with it:
  {command}
  net = ww.load_model({out!r})"""
LOAD = """wrote {out}; to load it in Python:
  import safetensors.torch, whatwhere as ww
  net = ww.need.{surgery}(ww.load_model({model}), {site!r}{options})
  net.module.load_state_dict(safetensors.torch.load_file({out!r}))"""


def collapse(
    model: str,
    site: str,
    out: str,
    weights: str | None = None,
    pretrained: bool = False,
    data: str | None = None,
    classes: int | None = None,
    width: float = 1.0,
    init: Literal["kernel-sum", "fresh"] = "kernel-sum",
    seed: int = 0,
    overwrite: bool = False,
) -> str:
    """Make the smaller network that pools globally before a site (GAP+FC), and save it.

    Args:
        model: timm/NAME, torchvision/NAME, cifar/NAME, package.module:function, a function of yours that makes the
            network, or a folder that ww.save wrote.
        site: the first site without spatial information, such as layer4.0 or "last 30%".
        out: a folder to write, which every command's --model takes; or a .safetensors file, which gets the weights
            alone. What this command wrote is replaced.
        weights: file of the network's weights (.safetensors, or a PyTorch checkpoint of tensors).
        pretrained: take the library's own weights, which it downloads.
        data: also measure both networks on these pictures.
        classes: number of scores.
        width: width factor of cifar/ networks.
        init: kernel-sum keeps what a trained network does to constant maps; fresh draws the later layers anew.
        seed: of fresh.
        overwrite: replace `out` also if this command did not write it.

    Examples:
        $ whatwhere need collapse --model timm/resnet18 --pretrained true --site layer4.0 --out small
        $ whatwhere need collapse --model cifar/vgg16 --site "last 30%" --init fresh --out small
    """
    made = _Made("collapse", {"init": init, "seed": seed})
    return made.of(model, site, out, weights, pretrained, data, classes, width, overwrite)


def pointwise(
    model: str,
    site: str,
    out: str,
    local: Literal["none", "average", "max"] = "none",
    weights: str | None = None,
    pretrained: bool = False,
    data: str | None = None,
    classes: int | None = None,
    width: float = 1.0,
    init: Literal["kernel-sum", "fresh"] = "kernel-sum",
    seed: int = 0,
    overwrite: bool = False,
) -> str:
    """Make the network whose convolutions look at one position each from a site on, and save it.

    Maps keep their sizes. What else lets positions see each other (pools, attention) stays, and is printed.

    Args:
        model: timm/NAME, torchvision/NAME, cifar/NAME, package.module:function, a function of yours that makes the
            network, or a folder that ww.save wrote.
        site: where the 1 x 1 convolutions begin, such as layer4.0 or "last 30%".
        out: a folder to write, which every command's --model takes; or a .safetensors file, which gets the weights
            alone. What this command wrote is replaced.
        local: a 3 x 3 pool before each 1 x 1 convolution, average or max.
        weights: file of the network's weights (.safetensors, or a PyTorch checkpoint of tensors).
        pretrained: take the library's own weights, which it downloads.
        data: also measure both networks on these pictures.
        classes: number of scores.
        width: width factor of cifar/ networks.
        init: kernel-sum keeps what a trained network does to constant maps; fresh draws the later layers anew.
        seed: of fresh.
        overwrite: replace `out` also if this command did not write it.

    Examples:
        $ whatwhere need pointwise --model timm/resnet18 --pretrained true --site layer4.0 --out flat
        $ whatwhere need pointwise --model cifar/vgg16 --site "last 30%" --local average --out flat
    """
    made = _Made("pointwise", {"local": None if local == "none" else local, "init": init, "seed": seed})
    return made.of(model, site, out, weights, pretrained, data, classes, width, overwrite)


def truncate(
    model: str,
    site: str,
    out: str,
    scores: int | None = None,
    weights: str | None = None,
    pretrained: bool = False,
    data: str | None = None,
    classes: int | None = None,
    width: float = 1.0,
    seed: int = 0,
    overwrite: bool = False,
) -> str:
    """Make the network that ends before a site, with a new linear layer on the mean of its map, and save it.

    The new layer has drawn weights: train it before its accuracy says anything.

    Args:
        model: timm/NAME, torchvision/NAME, cifar/NAME, package.module:function, a function of yours that makes the
            network, or a folder that ww.save wrote.
        site: the first site that goes, such as layer4.0 or "last 30%".
        out: a folder to write, which every command's --model takes; or a .safetensors file, which gets the weights
            alone. What this command wrote is replaced.
        scores: number of scores of the new layer; the network's own if not given.
        weights: file of the network's weights (.safetensors, or a PyTorch checkpoint of tensors).
        pretrained: take the library's own weights, which it downloads.
        data: also measure both networks on these pictures.
        classes: number of scores of the network.
        width: width factor of cifar/ networks.
        seed: of the new layer's weights.
        overwrite: replace `out` also if this command did not write it.

    Examples:
        $ whatwhere need truncate --model timm/resnet18 --pretrained true --site layer4.0 --scores 10 --out short
        $ whatwhere need truncate --model cifar/vgg16 --site "last 30%" --out short
    """
    made = _Made("truncate", {"classes": scores, "seed": seed})
    return made.of(model, site, out, weights, pretrained, data, classes, width, overwrite)


@dataclass(frozen=True)
class _Made:
    """What these commands have in common: load, operate, save, measure.

    Attributes:
        surgery: the name of the command, and of the function of `ww.need`.
        options: of the function, besides the site.
    """

    surgery: str
    options: Mapping[str, Any]

    @property
    def command(self) -> str:
        """As it is typed."""
        return f"whatwhere need {self.surgery}"

    def of(
        self,
        model: str,
        site: str,
        out: str,
        weights: str | None,
        pretrained: bool,
        data: str | None,
        classes: int | None,
        width: float,
        overwrite: bool,
    ) -> str:
        """Make and save a network, and say what was done and how to go on."""
        _check_out(out, model)
        from whatwhere.models.load import load_model
        from whatwhere.models.weights import random_weights

        self._check_place(out, overwrite)
        net = load_model(model, weights=weights, pretrained=pretrained, classes=classes, width=width)
        notes = [f"Note: {note} Give --weights FILE or --pretrained true." for note in random_weights(net)]
        new = self._operated(net, site)
        given = {"classes": classes, "width": None if width == 1.0 else width}
        wrote = self._write(new, out, model, {k: v for k, v in given.items() if v}, data, overwrite)
        return "\n".join([*notes, str(new.module.surgery), wrote, *(_accuracies(data, net, new) if data else [])])

    def _check_place(self, out: str, overwrite: bool) -> None:
        from whatwhere.files import refuse_foreign
        from whatwhere.models.saved import check_place
        from whatwhere.models.weights import about_weights

        there = Path(out)
        if there.suffix != ".safetensors":
            check_place(there, self.command, overwrite=overwrite, argument="out")
            return
        ours = about_weights(there).get(WROTE, "").startswith(self.command)
        refuse_foreign(there, [there], ours=ours, overwrite=overwrite)

    def _operated(self, net: Network, site: str) -> Network:
        from whatwhere import need
        from whatwhere.fingerprints import fingerprint

        new: Network = getattr(need, self.surgery)(net, site, **self.options)
        if self.surgery != "truncate":
            return new
        drawn = new.module.surgery.classifier  # type: ignore[union-attr]
        return replace(new, drawn=fingerprint(new.module), partial=f"{drawn}, which is new: train it.")

    def _write(
        self, new: Network, out: str, model: str, given: Mapping[str, Any], data: str | None, overwrite: bool
    ) -> str:
        """Write a folder, or the weights alone, and say how to load them."""
        if Path(out).suffix == ".safetensors":
            return self._write_weights(new, out, model, given)
        from whatwhere.models.saved import save

        save(new, out, overwrite=overwrite, by=self.command)
        command = shlex.join(["whatwhere", "evaluate", "--model", out, "--data", data or "FOLDER"])
        return FOLDER.format(out=out, command=command)

    def _write_weights(self, new: Network, out: str, model: str, given: Mapping[str, Any]) -> str:
        from whatwhere.models.weights import save_weights

        surgery: Any = new.module.surgery
        # One text: the order of several would differ from run to run.
        about = shlex.join([*self.command.split(), "--model", model, "--site", surgery.site])
        save_weights(new.module, out, {WROTE: about})
        return LOAD.format(
            out=out,
            model=repr(model) + _keywords(given),
            surgery=self.surgery,
            site=surgery.site,
            options=self._shape(),
        )

    def _shape(self) -> str:
        """The options that decide which layers there are."""
        return _keywords({name: v for name, v in self.options.items() if name in ("local", "classes") and v})


def _keywords(given: Mapping[str, Any]) -> str:
    return "".join(f", {name}={value!r}" for name, value in given.items())


def _check_out(out: str, model: str) -> None:
    """Refuse names of files of other kinds, and the model's own folder.

    Raises:
        InputError: saying what to give.
    """
    if Path(out).suffix in OTHERS:
        raise InputError(
            f"out={out!r} is not the name of a .safetensors file; give {f'{out}.safetensors'!r}, or a folder such as "
            f"{str(Path(out).with_suffix(''))!r}."
        )
    if Path(out).is_dir() and Path(out).resolve() == Path(model).expanduser().resolve():
        raise InputError(f"out={out!r} is the model's folder; give another, and both networks are kept.")


def _accuracies(data: str, *nets: Network) -> list[str]:
    from whatwhere.data.load import load_pictures
    from whatwhere.training.evaluate import evaluate

    pictures = load_pictures(data)
    return [f"{net.name}: {evaluate(net, pictures)}" for net in nets]
