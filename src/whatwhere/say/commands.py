"""Commands of this wing that are not studies. Light until they run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from whatwhere.errors import InputError

if TYPE_CHECKING:
    from whatwhere.say.studies.compare import Compare

TRUTH = "truth"


def train(
    data: str,
    out: str,
    model: str = "pspnet/resnet18",
    width: float = 1.0,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    crop: tuple[int, int] | None = None,
    scale: tuple[float, float] | None = None,
    balance: bool = True,
    precision: Literal["32-true", "bf16-mixed", "tf32"] | None = None,
    pretrained: bool = False,
    weights: str | None = None,
    seed: int = 0,
    device: str = "auto",
    overwrite: bool = False,
) -> str:
    """Train a segmentation network and keep its weights; the same command resumes after an interruption.

    Args:
        data: a folder with pictures and label maps, Cityscapes, or drawn/streets.
        out: folder for the checkpoint, the trained network, which --model takes like that of ww.save, and history.json.
        model: pspnet/TIMM-RESNET, torchvision/deeplabv3_resnet50, torchvision/lraspp_mobilenet_v3_large, smp/unet/NAME,
            or a folder that ww.save wrote, whose weights are trained on.
        width: width factor of pspnet/ networks.
        epochs: passes over the training pictures, instead of 60.
        batch_size: pictures in a step, instead of 8.
        lr: peak learning rate, instead of 0.001 (AdamW).
        crop: height and width of the random crop, instead of 256,256.
        scale: least and most factor of the random resize, instead of 0.5,2.
        balance: weigh rare classes more (ENet's logarithmic weights).
        precision: bf16-mixed is faster where the processor has bfloat16, tf32 on GPUs.
        pretrained: the library's own weights of the backbone, which it downloads.
        weights: file of the weights to start from.
        seed: of the initial weights, the order of the pictures and their augmentation.
        device: auto, cpu, cuda or mps.
        overwrite: replace weights and a history in the folder that no training of this command wrote.

    Examples:
        $ whatwhere say train --data FOLDER --out net
        $ whatwhere say train --data drawn/streets --width 0.5 --epochs 8 --crop 96,128 --scale 1,1 --out net
    """
    from dataclasses import replace
    from pathlib import Path

    from whatwhere.data.load_scenes import load_scenes
    from whatwhere.devices import check_device
    from whatwhere.lab.options import given_only
    from whatwhere.lab.training_folder import trained_in
    from whatwhere.models.load import load_model
    from whatwhere.say.checked import whole
    from whatwhere.say.studies.labelled import check_classes
    from whatwhere.training.class_weights import logarithmic
    from whatwhere.training.recipes import SCENES

    whole("seed", seed, 0)
    check_device(device)
    scenes = load_scenes(data)
    check_classes(scenes.train, scenes.test)
    changes: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "crop": crop, "scale": scale}
    changes |= {"precision": precision, "class_weights": logarithmic(scenes.train) if balance else None}
    recipe = replace(SCENES, **given_only(changes))
    net = load_model(model, classes=len(scenes.classes), width=width, pretrained=pretrained, weights=weights, seed=seed)
    about = {"model": model, "width": width, "data": scenes.describe()}
    tested = trained_in(Path(out), net, scenes, recipe, about, seed=seed, device=device, overwrite=overwrite)
    return f"{Path(out) / 'weights.safetensors'}: {tested}"


def explain(
    data: str,
    weights: str,
    model: str = "pspnet/resnet18",
    out: str = "out",
    width: float = 1.0,
    site: str | None = None,
    weights_folder: str | None = None,
    pictures: tuple[int, ...] | None = None,
) -> str:
    """Show what the supervised bottleneck says of test pictures, its reasons, and where it fails.

    `say compare` must have run into the same folder; concepts and settings are those of its study.json.

    Args:
        data: as for compare.
        weights: as for compare.
        model: as for compare.
        out: as for compare; the page goes to its folder explain.
        width: as for compare.
        site: of the bottleneck; may be left out where compare had one only.
        weights_folder: as for compare.
        pictures: numbers of test pictures; those of the commonest failures and others if not given.

    Examples:
        $ whatwhere say explain --data FOLDER --weights net/weights.safetensors --out say
        $ whatwhere say explain --data FOLDER --weights net/weights.safetensors --site fuse --pictures 0,12 --out say
    """
    from whatwhere.say.studies.explain import explained

    study = finished(model, data, weights, width, out)
    page, shown = explained(study, out, site, rows=pictures, weights_folder=weights_folder)
    return f"{shown}\nopen {page}"


def intervene(
    data: str,
    weights: str,
    picture: int,
    set: tuple[str, ...],
    model: str = "pspnet/resnet18",
    out: str = "out",
    width: float = 1.0,
    site: str | None = None,
    box: tuple[float, float, float, float] | None = None,
    weights_folder: str | None = None,
) -> str:
    """Overwrite concepts of a test picture, and see how the prediction changes.

    `say compare` must have run into the same folder; concepts and settings are those of its study.json.

    Args:
        data: as for compare.
        weights: as for compare.
        picture: number of the test picture.
        set: "vehicle=0", "part: wheel=1", "colour: *=truth"; several with commas, of which a later one counts where
            patterns overlap. truth takes the labels.
        model: as for compare.
        out: as for compare; the page goes to its folder intervene.
        width: as for compare.
        site: of the bottleneck; may be left out where compare had one only.
        box: only there: top, bottom, left and right as shares of the picture.
        weights_folder: as for compare.

    Examples:
        $ whatwhere say intervene --data FOLDER --weights net/weights.safetensors --picture 3 --set vehicle=0 --out say
        $ whatwhere say intervene --data FOLDER --weights net.safetensors --picture 3 --set "part: *=truth" --out say
    """
    from pathlib import Path

    from whatwhere.say.studies.intervene import intervene as write

    values, study = assignments(set), finished(model, data, weights, width, out)
    change = write(study, out, picture, values, site, box=box, weights_folder=weights_folder)
    return f"{change}\nopen {Path(out) / 'intervene' / 'index.html'}"


def finished(model: str, data: str, weights: str, width: float, out: str) -> Compare:
    """The comparison that was run into a folder, with the concepts and settings of its study.json.

    Raises:
        InputError: if the folder holds none.
    """
    from whatwhere.say.studies.compare import Compare
    from whatwhere.say.studies.speaker import settings_in

    plain = settings_in(out)
    tuning = {name: plain["recipe"][name] for name in ("epochs", "batch_size", "lr")}
    return Compare(model, data, weights, width, concepts=plain["concepts"], group=plain["group"], **tuning)


def assignments(texts: tuple[str, ...]) -> dict[str, float | str]:
    """Concepts and what they are set to.

    Raises:
        InputError: for a text that is not `concept=value`.
    """
    values: dict[str, float | str] = {}
    for text in texts:
        name, sign, value = text.rpartition("=")
        name, value = name.strip(), value.strip()
        if name in values:
            raise InputError(f"set={text!r}: {name!r} is set twice; give each concept or pattern once.")
        try:
            values[name] = TRUTH if value == TRUTH else float(value)
        except ValueError:
            sign = ""
        if not sign or not name:
            raise InputError(f"set={text!r}: give concept=value, such as vehicle=0 or vehicle={TRUTH}.")
    return values
