"""Commands about one network: its sites, its training, its smaller twin; and a stored result's page."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from whatwhere.cli.arguments import adapted, announced, check_start
from whatwhere.data import load_data
from whatwhere.dependency.collapse import collapse as collapse_network
from whatwhere.errors import InputError, unknown
from whatwhere.files import write_json
from whatwhere.models.load import load_model, save_weights
from whatwhere.network import Network
from whatwhere.position.uneven import padding_text
from whatwhere.runs.progress import Meter
from whatwhere.sites import format_table, list_sites
from whatwhere.studies.stored import load_result
from whatwhere.training.evaluate import evaluate
from whatwhere.training.fit import fit
from whatwhere.training.recipes import recipe_named

KINDS = ("conv", "conv1x1", "norm", "act", "pool", "linear", "block", "group", "other")  # of `Site.kind`


def sites(
    model: str,
    weights: Path | None = None,
    classes: int | None = None,
    width: float = 1.0,
    kind: str | None = None,
    select: str | None = None,
    input_size: tuple[int, int, int] | None = None,
    padding: bool = False,
) -> None:
    """List every place where a spatial map flows through a network.

    Args:
        model: timm/NAME, torchvision/NAME, or cifar/NAME (vgg11, vgg16, resnet20, resnet50, ...).
        weights: a .safetensors file.
        classes: number of scores.
        width: width factor of cifar/ networks.
        kind: show one kind only: conv, conv1x1, norm, act, pool, linear, block, group, other.
        select: show a selection only: a name, a glob, "from:", "from:to", or "last 30%".
        input_size: channels, height and width of one input; the network's own if not given.
        padding: show instead which strided layers use their padding unevenly, and input sizes that avoid it.
    """
    if kind is not None and kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    net = load_model(model, weights=weights, classes=classes, width=width)
    if padding:
        print(padding_text(net, input_size))
        return
    table = list_sites(net, input_size=input_size)
    chosen = [s for s in table.select(select) if kind in (None, s.kind)]
    among = f" in the selection {select!r}" if select else ""
    print(format_table(chosen) if chosen else f"{net.name} has no site of kind {kind!r}{among}.")
    print(f"preprocessing: {net.preprocessing}")


def train(
    model: str,
    data: str,
    out: Path,
    recipe: str = "fast",
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    precision: Literal["32-true", "bf16-mixed"] | None = None,
    augment: bool = True,
    width: float = 1.0,
    weights: Path | None = None,
    seed: int = 0,
    device: str = "auto",
) -> None:
    """Train a network and keep its weights; run again to go on after an interruption.

    Args:
        model: timm/NAME, torchvision/NAME, or cifar/NAME.
        data: hf/ID, a folder, known/what, known/where, known/surroundings, or digits.
        out: folder for the checkpoint, weights.safetensors and history.json.
        recipe: fan2020-cifar, fan2020-small-imagenet, fan2020-imagenet, fast, demo.
        epochs: instead of the recipe's.
        batch_size: instead of the recipe's.
        lr: instead of the recipe's.
        precision: instead of the recipe's; bf16-mixed is faster where the processor has bfloat16.
        augment: crop and flip as the recipe says.
        width: width factor of cifar/ networks.
        weights: start from these.
        seed: of the initial weights, the order of the pictures and their augmentation.
        device: auto, cpu, cuda or mps.
    """
    pictures = load_data(data)
    net = load_model(model, weights=weights, classes=len(pictures.classes), width=width, seed=seed)
    chosen = adapted(recipe_named(recipe), augment, epochs=epochs, batch_size=batch_size, lr=lr, precision=precision)
    check_start(out, net)
    with Meter(f"training {net.name}", chosen.epochs * (len(pictures.train) // chosen.batch_size)) as meter:
        history = fit(
            net, pictures.train, chosen, seed=seed, device=device, file=out / "checkpoint.pt", test=pictures.test,
            on_step=lambda done, total: meter.update(done),
        )  # fmt: skip
    save_weights(net.module, out / "weights.safetensors")
    tested = evaluate(net, pictures)
    settings = {"model": model, "data": pictures.describe(), "seed": seed, "width": width, "recipe": chosen.to_dict()}
    preprocessing = net.preprocessing.to_dict()
    write_json(
        out / "history.json",
        {**settings, "preprocessing": preprocessing, "epochs": history.epochs, "accuracy": tested.accuracy},
    )
    print(f"{net.name}: {tested}\n{out / 'weights.safetensors'}")


def collapse(
    model: str,
    site: str,
    out: Path,
    weights: Path | None = None,
    pretrained: bool = False,
    data: str | None = None,
    classes: int | None = None,
    width: float = 1.0,
    init: Literal["kernel-sum", "fresh"] = "kernel-sum",
    seed: int = 0,
) -> None:
    """Make the smaller network that pools globally before a site (GAP+FC), and save its weights.

    Args:
        model: timm/NAME, torchvision/NAME, or cifar/NAME.
        site: the first site without spatial information; "last 30%" will do.
        out: a .safetensors file to write.
        weights: of the network, a .safetensors file.
        pretrained: the library's own weights, which it downloads.
        data: also measure both networks on these pictures.
        classes: number of scores.
        width: width factor of cifar/ networks.
        init: kernel-sum keeps what a trained network does to constant maps; fresh draws the later layers anew.
        seed: of fresh.
    """
    if out.suffix != ".safetensors":
        raise InputError(f"out={str(out)!r} is no name of a .safetensors file; give {f'{out}.safetensors'!r}.")
    net = announced(load_model(model, weights=weights, pretrained=pretrained, classes=classes, width=width))
    small = collapse_network(net, site, init=init, seed=seed)
    assert isinstance(small, Network)
    print(small.module.surgery)
    save_weights(small.module, out)
    options = "".join([f", classes={classes}" if classes else "", f", width={width}" if width != 1.0 else ""])
    print(
        f"wrote {out}; to load it in Python:\n"
        f"  import safetensors.torch, whatwhere as ww\n"
        f"  net = ww.collapse(ww.load_model({model!r}{options}), {site!r})\n"
        f"  net.module.load_state_dict(safetensors.torch.load_file({str(out)!r}))"
    )
    if data:
        pictures = load_data(data)
        for each in (net, small):
            print(f"{each.name}: {evaluate(each, pictures)}")


def report(folder: Path) -> None:
    """Write the table, the figures and the page of a result.json again.

    Args:
        folder: that holds result.json.
    """
    print(f"open {load_result(folder).save(folder)}")
