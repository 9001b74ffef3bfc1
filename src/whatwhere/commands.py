"""Commands about one network or one result: its sites, its training, its evaluation, its page. Light until they run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from whatwhere.training.tracking import LOGS, Log, check_log, tracked

if TYPE_CHECKING:
    from whatwhere.network import Network

KINDS = ("conv", "conv1x1", "norm", "act", "pool", "linear", "block", "group", "other")  # of `Site.kind`


def sites(
    model: str,
    weights: str | None = None,
    pretrained: bool = False,
    classes: int | None = None,
    width: float = 1.0,
    kind: str | None = None,
    select: str | None = None,
    input_size: tuple[int, int, int] | None = None,
    padding: bool = False,
    receptive: bool = False,
    data: str | None = None,
    pictures: int = 32,
) -> str:
    """List every place where a spatial map flows through a network.

    Args:
        model: timm/NAME, torchvision/NAME, hf/ID, cifar/NAME (vgg11, vgg16, resnet20, resnet50, ...),
            package.module:function, a function of yours that makes the network, or a folder that ww.save or Hugging
            Face's save_pretrained wrote.
        weights: a .safetensors file, or a PyTorch checkpoint of tensors.
        pretrained: take the library's own weights, which it downloads.
        classes: number of scores.
        width: width factor of cifar/, pspnet/ and ssd/ networks.
        kind: show one kind only: conv, conv1x1, norm, act, pool, linear, block, group or other.
        select: show a selection only: a name, a glob, "from:", "from:to", or "last 30%".
        input_size: channels, height and width of one input; the network's own if not given.
        padding: show instead which strided layers use their padding unevenly, and input sizes that avoid it.
        receptive: show instead how far the middle position of each site sees, by gradients on pictures (a backward pass
            from each site): the radii that hold 50 and 95 %, and the box outside of which nothing matters.
        data: pictures for `receptive`, with or without labels: hf/ID, a folder, known/what or digits.
        pictures: for `receptive`, at most this many.

    Examples:
        $ whatwhere sites --model timm/resnet18 --kind conv --select "last 30%"
        $ whatwhere sites --model timm/resnet18 --pretrained true --select "layer*" --receptive true --data FOLDER
    """
    from whatwhere.errors import unknown
    from whatwhere.hold.uneven import padding_text
    from whatwhere.models.load import load_model
    from whatwhere.site import format_table
    from whatwhere.site_table import list_sites

    if kind is not None and kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    net = load_model(model, weights=weights, pretrained=pretrained, classes=classes, width=width)
    if padding:
        return padding_text(net, input_size)
    if receptive:
        return _receptive_text(net, data, select, kind, pictures)
    chosen = [s for s in list_sites(net, input_size=input_size).select(select) if kind in (None, s.kind)]
    among = f" in the selection {select!r}" if select else ""
    shown = format_table(chosen) if chosen else f"{net.name} has no site of kind {kind!r}{among}."
    return f"{shown}\npreprocessing: {net.preprocessing}"


def _receptive_text(net: Network, data: str | None, select: str | None, kind: str | None, pictures: int) -> str:
    """The receptive fields of some sites."""
    from whatwhere.data.load import load_pictures
    from whatwhere.errors import InputError
    from whatwhere.receptive import receptive_fields
    from whatwhere.site_table import list_sites

    if data is None:
        raise InputError("receptive=true: gradients are measured on pictures; give --data, a folder of pictures say.")
    loaded = load_pictures(data)
    table = list_sites(net, input_size=loaded.test.shape(net.preprocessing))
    chosen = [s for s in table.select(select) if kind in (None, s.kind)]
    return f"{receptive_fields(net, loaded, chosen, pictures=pictures)}\npreprocessing: {net.preprocessing}"


def train(
    model: str,
    data: str,
    out: str,
    recipe: str = "fast",
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    precision: Literal["32-true", "bf16-mixed", "tf32"] | None = None,
    ema: float | None = None,
    fused: bool | None = None,
    compile: bool | None = None,
    augment: bool = True,
    width: float = 1.0,
    weights: str | None = None,
    seed: int = 0,
    device: str = "auto",
    devices: int = 1,
    overwrite: bool = False,
    log: Log | None = None,
) -> str:
    """Train a classification network, or a detector, and keep its weights; the same command resumes.

    Args:
        model: timm/NAME, torchvision/NAME, cifar/NAME, ssd/small (a detector), package.module:function, a function of
            yours that makes the network, or a folder that ww.save wrote, whose weights are trained on.
        data: hf/ID, a folder, known/what, known/where, known/surroundings or digits; for a detector drawn/boxes, or a
            folder with VOCdevkit or COCO's annotations.
        out: folder for the checkpoint, the trained network, which --model takes like that of ww.save, and history.json.
        recipe: fan2020-cifar, fan2020-cifar-fast, fan2020-small-imagenet, fan2020-imagenet, wang2018-imagenet, fast,
            finetune, vit or demo; boxes for a detector.
        epochs: passes over the training pictures, instead of the recipe's.
        batch_size: pictures in a step, instead of the recipe's.
        lr: peak learning rate, instead of the recipe's.
        precision: instead of the recipe's; bf16-mixed is faster where the processor has bfloat16, tf32 on GPUs.
        ema: decay of a running average of the weights, which is kept in their place, such as 0.999.
        fused: update all weights in one kernel.
        compile: by torch.compile, on a GPU with CUDA graphs.
        augment: crop and flip as the recipe says.
        width: width factor of cifar/ and ssd/ networks.
        weights: file of the weights to start from.
        seed: of the initial weights, the order of the pictures and their augmentation.
        device: auto, cpu, cuda or mps.
        devices: GPUs of this machine, or processes on its CPU, that share every batch; on several machines start the
            command with torchrun in each of them instead. Batch norm normalises each share by itself, and dropout draws
            anew for each.
        overwrite: replace weights and a history in the folder that no training of this command wrote.
        log: also log every epoch: csv or tensorboard (in the folder's logs/), wandb, mlflow or trackio (where their own
            settings say).

    Examples:
        $ whatwhere train --model cifar/vgg16 --data hf/uoft-cs/cifar100 --out trained
        $ whatwhere train --model ssd/small --data drawn/boxes --recipe boxes --out detector
    """
    from contextlib import nullcontext
    from pathlib import Path

    from whatwhere.data.load import load_pictures
    from whatwhere.data.load_boxes import holds_boxes, load_boxes
    from whatwhere.devices import check_device
    from whatwhere.errors import InputError
    from whatwhere.lab.training_folder import trained_in
    from whatwhere.models.load import load_model
    from whatwhere.training.ranks import rank
    from whatwhere.training.recipes import adapted, recipe_named

    check_device(device)
    if log:
        check_log(log)
    pictures = load_boxes(data) if holds_boxes(data) else load_pictures(data)
    if not pictures.classes:
        raise InputError(f"data={data!r}: these pictures have no labels; training needs them, as class folders give.")
    net = load_model(model, weights=weights, classes=len(pictures.classes), width=width, seed=seed)
    changes = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "precision": precision}
    how = adapted(recipe_named(recipe), augment, **changes, ema=ema, fused=fused, compile=compile)
    about = {"model": model, "data": pictures.describe(), "seed": seed, "width": width}
    settings = {**about, "recipe": how.to_dict()}
    where = {"device": device, "devices": devices, "overwrite": overwrite}
    first = rank() == 0  # of processes that torchrun started
    with tracked(log, Path(out) / LOGS, Path(out).resolve().name, settings) if log and first else nullcontext():
        tested = trained_in(Path(out), net, pictures, how, about, seed=seed, **where)  # type: ignore[arg-type]
    return f"{net.name}: {tested}\n{Path(out) / 'weights.safetensors'}" if first else ""


def evaluate(
    model: str,
    data: str,
    weights: str | None = None,
    pretrained: bool = False,
    classes: int | None = None,
    width: float = 1.0,
    device: str = "auto",
) -> str:
    """Measure a network on its test split: accuracy on pictures, mIoU on scenes, mAP on pictures with boxes.

    Args:
        model: timm/NAME, torchvision/NAME, cifar/NAME, a segmentation network such as pspnet/resnet18,
            package.module:function, a function of yours that makes the network, or a folder that ww.save wrote.
        data: pictures (hf/ID, a folder, digits, ...), scenes (a folder with label maps, Cityscapes, drawn/streets), or
            pictures with boxes (a folder with VOCdevkit or COCO's annotations, drawn/boxes).
        weights: a .safetensors file, or a PyTorch checkpoint of tensors.
        pretrained: take the library's own weights, which it downloads.
        classes: number of scores; that of the data if not given, with `pretrained` the library's.
        width: width factor of cifar/, pspnet/ and ssd/ networks.
        device: auto, cpu, cuda or mps.

    Examples:
        $ whatwhere evaluate --model timm/resnet18 --pretrained true --data FOLDER
        $ whatwhere evaluate --model pspnet/resnet18 --weights net/weights.safetensors --data drawn/streets
    """
    from whatwhere.data.load import load_data
    from whatwhere.devices import check_device
    from whatwhere.lab.sources import place
    from whatwhere.models.load import load_model
    from whatwhere.training.evaluate import evaluate as evaluated

    check_device(device)
    loaded = load_data(data)
    own = None if pretrained else len(loaded.classes) or None
    scores = own if classes is None else classes
    net = place(load_model(model, weights=weights, pretrained=pretrained, classes=scores, width=width), device)
    return "\n".join([f"{net.name}: {evaluated(net, loaded)}", *warnings_of(net)])


def export(
    model: str,
    out: str,
    format: Literal["onnx", "torch-export"] = "onnx",
    weights: str | None = None,
    pretrained: bool = False,
    classes: int | None = None,
    width: float = 1.0,
    input_size: tuple[int, int, int] | None = None,
    overwrite: bool = False,
) -> str:
    """Write a network as a file that runs without this package, and compare what it gives on random pictures.

    Args:
        model: timm/NAME, torchvision/NAME, cifar/NAME, a segmentation network such as pspnet/resnet18,
            package.module:function, a function of yours that makes the network, or a folder that ww.save wrote.
        out: the file, NAME.onnx or NAME.pt2; one that this command wrote is replaced.
        format: onnx, or torch-export, which torch.export.load reads.
        weights: a .safetensors file, or a PyTorch checkpoint of tensors.
        pretrained: take the library's own weights, which it downloads.
        classes: number of scores.
        width: width factor of cifar/, pspnet/ and ssd/ networks.
        input_size: channels, height and width of one input; the network's own if not given.
        overwrite: replace the file also if this command did not write it.

    Examples:
        $ whatwhere export --model timm/resnet18 --pretrained true --out resnet18.onnx
        $ whatwhere export --model small --format torch-export --out small.pt2
    """
    from whatwhere.models.exported import check_names
    from whatwhere.models.exported import export as exported
    from whatwhere.models.load import load_model

    check_names(out, format)
    net = load_model(model, weights=weights, pretrained=pretrained, classes=classes, width=width)
    done = exported(net, out, format=format, input_size=input_size, overwrite=overwrite)
    return "\n".join([str(done), *warnings_of(net)])


def report(folder: str) -> str:
    """Write the table, the figures and the page of a stored result again.

    Args:
        folder: holds result.json.

    Examples:
        $ whatwhere report --folder curve
        $ whatwhere report --folder use/joint
    """
    from whatwhere.wings import load_result

    return f"open {load_result(folder).save(folder)}"


def warnings_of(net: Network) -> list[str]:
    """Warnings about a network, such as random weights."""
    from whatwhere.models.weights import random_weights

    return [f"Note: {note}" for note in random_weights(net)]
