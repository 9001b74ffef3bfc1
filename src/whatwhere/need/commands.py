"""Commands of this wing that are not studies."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from whatwhere.errors import InputError

if TYPE_CHECKING:
    from whatwhere.network import Network

WROTE, COMMAND = "written by", "whatwhere need collapse"  # in the file's head
OTHERS = (".pt", ".pth", ".bin", ".ckpt", ".onnx", ".pt2", ".h5", ".json")  # of files that are not written here
FOLDER = """wrote {out}; to go on with it:
  {command}
  net = ww.load_model({out!r})"""
LOAD = """wrote {out}; to load it in Python:
  import safetensors.torch, whatwhere as ww
  net = ww.need.collapse(ww.load_model({model}), {site!r})
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
    _check_out(out, model)
    from whatwhere.files import refuse_foreign
    from whatwhere.models.load import load_model
    from whatwhere.models.saved import check_place, save
    from whatwhere.models.weights import about_weights, random_weights
    from whatwhere.need.gap_fc import collapse as collapsed

    there, alone = Path(out), Path(out).suffix == ".safetensors"
    if alone:
        ours = about_weights(there).get(WROTE, "").startswith(COMMAND)
        refuse_foreign(there, [there], ours=ours, overwrite=overwrite)
    else:
        check_place(there, COMMAND, overwrite=overwrite, argument="out")
    net = load_model(model, weights=weights, pretrained=pretrained, classes=classes, width=width)
    notes = [f"Note: {note} Give --weights FILE or --pretrained true." for note in random_weights(net)]
    small = collapsed(net, site, init=init, seed=seed)
    if alone:
        options = {"classes": classes, "width": None if width == 1.0 else width}
        wrote = _write_weights(small, out, model, {name: value for name, value in options.items() if value})
    else:
        save(small, out, overwrite=overwrite, by=COMMAND)
        command = shlex.join(["whatwhere", "evaluate", "--model", out, "--data", data or "FOLDER"])
        wrote = FOLDER.format(out=out, command=command)
    return "\n".join([*notes, str(small.module.surgery), wrote, *(_accuracies(data, net, small) if data else [])])


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


def _write_weights(small: Network, out: str, model: str, options: Mapping[str, Any]) -> str:
    """Write the weights alone, and say how to load them."""
    from whatwhere.models.weights import save_weights

    surgery: Any = small.module.surgery
    # One text: the order of several would differ from run to run.
    about = shlex.join([*COMMAND.split(), "--model", model, "--site", surgery.site])
    save_weights(small.module, out, {WROTE: about})
    given = ", ".join([repr(model), *(f"{name}={value}" for name, value in options.items())])
    return LOAD.format(out=out, model=given, site=surgery.site)


def _accuracies(data: str, *nets: Network) -> list[str]:
    from whatwhere.data.load import load_pictures
    from whatwhere.training.evaluate import evaluate

    pictures = load_pictures(data)
    return [f"{net.name}: {evaluate(net, pictures)}" for net in nets]
