"""Commands of this wing that are not studies."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from whatwhere.errors import InputError

if TYPE_CHECKING:
    from whatwhere.network import Network

WROTE, COMMAND = "written by", "whatwhere need collapse"  # in the file's head
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
    """Make the smaller network that pools globally before a site (GAP+FC), and save its weights.

    Args:
        model: timm/NAME, torchvision/NAME, cifar/NAME, package.module:function, a function of yours that makes the
            network, or a folder that ww.save wrote.
        site: the first site without spatial information, such as layer4.0 or "last 30%".
        out: a .safetensors file to write; one that this command wrote is replaced.
        weights: file of the network's weights (.safetensors, or a PyTorch checkpoint of tensors).
        pretrained: take the library's own weights, which it downloads.
        data: also measure both networks on these pictures.
        classes: number of scores.
        width: width factor of cifar/ networks.
        init: kernel-sum keeps what a trained network does to constant maps; fresh draws the later layers anew.
        seed: of fresh.
        overwrite: replace `out` also if this command did not write it.

    Examples:
        $ whatwhere need collapse --model timm/resnet18 --pretrained true --site layer4.0 --out small.safetensors
        $ whatwhere need collapse --model cifar/vgg16 --site "last 30%" --init fresh --out small.safetensors
    """
    if Path(out).suffix != ".safetensors":
        raise InputError(f"out={out!r} is not the name of a .safetensors file; give {f'{out}.safetensors'!r}.")
    from whatwhere.files import refuse_foreign
    from whatwhere.models.load import load_model
    from whatwhere.models.weights import about_weights, random_weights, save_weights
    from whatwhere.need.gap_fc import collapse as collapsed

    file = Path(out)
    refuse_foreign(file, [file], ours=about_weights(file).get(WROTE, "").startswith(COMMAND), overwrite=overwrite)
    net = load_model(model, weights=weights, pretrained=pretrained, classes=classes, width=width)
    notes = [f"Note: {note} Give --weights FILE or --pretrained true." for note in random_weights(net)]
    small = collapsed(net, site, init=init, seed=seed)
    surgery: Any = small.module.surgery
    # One text: the order of several would differ from run to run.
    save_weights(small.module, file, {WROTE: shlex.join([*COMMAND.split(), "--model", model, "--site", surgery.site])})
    options = "".join([f", classes={classes}" if classes else "", f", width={width}" if width != 1.0 else ""])
    loading = LOAD.format(out=out, model=f"{model!r}{options}", site=surgery.site)
    return "\n".join([*notes, str(surgery), loading, *(_accuracies(data, net, small) if data else [])])


def _accuracies(data: str, *nets: Network) -> list[str]:
    from whatwhere.data.load import load_pictures
    from whatwhere.training.evaluate import evaluate

    pictures = load_pictures(data)
    return [f"{net.name}: {evaluate(net, pictures)}" for net in nets]
