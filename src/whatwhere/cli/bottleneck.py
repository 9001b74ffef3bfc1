"""The commands `whatwhere bottleneck demo | train | evaluate | explain | intervene`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from whatwhere.cli.arguments import check_start, given_only, listed, measures, numbers
from whatwhere.data.load_scenes import load_scenes
from whatwhere.data.scenes import Scenes
from whatwhere.errors import InputError
from whatwhere.files import read_json, write_json
from whatwhere.models.load import load_model, save_weights
from whatwhere.network import Network
from whatwhere.runs.progress import Meter
from whatwhere.studies.bottleneck.demo import demo as run_demo
from whatwhere.studies.bottleneck.explain import explain as write_explanation
from whatwhere.studies.bottleneck.intervene import TRUTH, Box
from whatwhere.studies.bottleneck.intervene import intervene as write_intervention
from whatwhere.studies.bottleneck.study import TUNING, Setting, bottleneck_study, reopened
from whatwhere.training.class_weights import logarithmic
from whatwhere.training.evaluate_scenes import evaluate_scenes
from whatwhere.training.fit import fit
from whatwhere.training.recipes import SCENES, SceneRecipe

DEFAULT_SITE = "backbone.layer4"


def train(
    data: str,
    out: Path,
    model: str = "pspnet/resnet18",
    width: float = 1.0,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    crop: list[int] | str | None = None,
    scale: list[float] | str | None = None,
    balance: bool = True,
    precision: Literal["32-true", "bf16-mixed"] | None = None,
    pretrained: bool = False,
    weights: Path | None = None,
    seed: int = 0,
    device: str = "auto",
) -> None:
    """Train a segmentation network and keep its weights; run again to go on after an interruption.

    Args:
        data: a folder with pictures and label maps, Cityscapes, or drawn/streets.
        out: folder for the checkpoint, weights.safetensors and history.json.
        model: pspnet/TIMM-RESNET, torchvision/deeplabv3_resnet50, torchvision/lraspp_mobilenet_v3_large, smp/unet/NAME.
        width: width factor of pspnet/ networks.
        epochs: instead of 60.
        batch_size: instead of 8.
        lr: instead of 0.001 (AdamW).
        crop: height and width of the random crop.
        scale: least and most factor of the random resize.
        balance: weigh rare classes more (ENet's logarithmic weights).
        precision: bf16-mixed is faster where the processor has bfloat16.
        pretrained: the library's own weights of the backbone, which it downloads.
        weights: a .safetensors file to start from.
        seed: of the initial weights, order and augmentation.
        device: auto, cpu, cuda or mps.
    """
    scenes = load_scenes(data)
    changes = given_only({
        "epochs": epochs, "batch_size": batch_size, "lr": lr, "precision": precision,
        "crop": _size(crop), "scale": measures("scale", scale, 2),
    })  # fmt: skip
    recipe = SceneRecipe(**{**SCENES.to_dict(), **changes})
    if balance:
        recipe = SceneRecipe(**{**recipe.to_dict(), "class_weights": logarithmic(scenes.train)})
    net = load_model(model, classes=len(scenes.classes), width=width, pretrained=pretrained, weights=weights, seed=seed)
    check_start(out, net)
    steps = recipe.epochs * (len(scenes.train) // recipe.batch_size)
    with Meter(f"training {net.name}", steps) as meter:
        history = fit(
            net, scenes.train, recipe, seed=seed, device=device, file=out / "checkpoint.pt",
            on_step=lambda done, total: meter.update(done),
        )  # fmt: skip
    save_weights(net.module, out / "weights.safetensors")
    tested = evaluate_scenes(net, scenes.test)
    iou = dict(zip(scenes.classes, (None if v != v else v for v in tested.iou.tolist()), strict=True))
    about = {"model": model, "width": width, "recipe": recipe.to_dict(), "seed": seed, "data": scenes.describe()}
    write_json(out / "history.json", {**about, "epochs": history.epochs, "miou": tested.miou, "iou": iou})
    print(f"{out / 'weights.safetensors'}: {tested}")


def evaluate(
    data: str,
    weights: Path,
    out: Path,
    model: str = "pspnet/resnet18",
    width: float = 1.0,
    sites: list[str] | str = DEFAULT_SITE,
    concepts: Path | None = None,
    kinds: list[str] | str | None = None,
    seeds: list[int] | int | str | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    group: int = 4,
    weights_folder: Path | None = None,
    workers: int = 0,
    device: str = "auto",
    run: bool = True,
) -> None:
    """Put bottlenecks of all kinds into a trained network, and measure what they cost and give.

    Args:
        data: a folder with pictures and label maps, Cityscapes, or drawn/streets.
        weights: the trained network's.
        out: folder for cells, result.json, table.csv, figures and index.html; run again to go on.
        model: the network's name; see `bottleneck train`.
        width: width factor of pspnet/ networks.
        sites: modules behind which a bottleneck goes; several with commas.
        concepts: a JSON file: {"merged": {"vehicle": ["car", "bus"]}, "named": ["part"], "colours": true, "textures":
            true, "positions": true, "only": ["colour: g*"], "select": {"pictures": 10, "most": 40}}; what the data
            offers if not given.
        kinds: tuned, ssb, ssb-binary, usb, learned, pca, random, truth; all if not given.
        seeds: of the fine-tuning, such as 0,1,2.
        epochs: of the fine-tuning, instead of 10.
        lr: of the fine-tuning, instead of 0.001 (AdamW).
        group: maps in a softmax group of usb.
        weights_folder: for features, checkpoints and networks, if not in out.
        workers: processes side by side.
        device: auto, cpu, cuda or mps.
        run: false only folds the cells that are there.
    """
    where: list[str] = listed(sites) or []
    scenes = load_scenes(data)
    result = bottleneck_study(
        _network(model, scenes, width, weights), scenes, sites=where, out=out, concepts=_spec(concepts),
        recipe=_recipe(epochs, lr), group=group, weights=weights_folder, workers=workers, device=device, run=run,
        **given_only({"kinds": listed(kinds), "seeds": numbers(seeds)}),
    )  # fmt: skip
    print(f"open {out / 'index.html'}\n{result.conclusion}")


def explain(
    data: str,
    weights: Path,
    out: Path,
    model: str = "pspnet/resnet18",
    width: float = 1.0,
    site: str | None = None,
    weights_folder: Path | None = None,
    pictures: list[int] | int | str | None = None,
) -> None:
    """Show what the supervised bottleneck says of test pictures, why, and where it fails.

    `bottleneck evaluate` must have run into the same folder; concepts and settings are those it had.

    Args:
        data: as for evaluate.
        weights: as for evaluate.
        out: as for evaluate; the page goes to out/explain.
        model: as for evaluate.
        width: as for evaluate.
        site: of the bottleneck; may be left out where evaluate had one only.
        weights_folder: as for evaluate.
        pictures: numbers of test pictures; those of the commonest failures and others if not given.
    """
    setting = _setting(model, data, width, weights, out, weights_folder)
    print(f"open {write_explanation(setting, _site(setting, site), out / 'explain', rows=numbers(pictures))}")


def intervene(
    data: str,
    weights: Path,
    out: Path,
    picture: int,
    set: list[str] | str,
    model: str = "pspnet/resnet18",
    width: float = 1.0,
    site: str | None = None,
    box: list[float] | str | None = None,
    weights_folder: Path | None = None,
) -> None:
    """Overwrite concepts of a test picture, and see what is said then.

    `bottleneck evaluate` must have run into the same folder; concepts and settings are those it had.

    Args:
        data: as for evaluate.
        weights: as for evaluate.
        out: as for evaluate; the page goes to out/intervene.
        picture: number of the test picture.
        set: "vehicle=0", "part: wheel=1", "colour: *=truth"; several with commas. truth takes the labels.
        model: as for evaluate.
        width: as for evaluate.
        site: of the bottleneck; may be left out where evaluate had one only.
        box: only there: top, bottom, left and right as shares of the picture.
        weights_folder: as for evaluate.
    """
    values = assignments(listed(set) or [])
    setting = _setting(model, data, width, weights, out, weights_folder)
    change = write_intervention(setting, _site(setting, site), picture, values, out / "intervene", box=_box(box))
    print(f"open {out / 'intervene' / 'index.html'}\n{100 * change.changed:.1f} % of the picture is said otherwise.")


def demo(out: Path = Path("demo-say")) -> None:
    """Train a network on drawn streets, make it speak in parts and materials, and name its planted failure.

    Args:
        out: folder of the page; run again to go on.
    """
    print(f"open {run_demo(out)}")


def assignments(texts: list[str]) -> dict[str, float | str]:
    """Concepts and what they are set to.

    Raises:
        InputError: for what is no `concept=value`.
    """
    values: dict[str, float | str] = {}
    for text in texts:
        name, sign, value = text.rpartition("=")
        try:
            values[name.strip()] = TRUTH if value.strip() == TRUTH else float(value)
        except ValueError:
            sign = ""
        if not sign or not name.strip():
            raise InputError(f"set={text!r}: give concept=value, such as vehicle=0 or vehicle={TRUTH}.")
    return values


def _network(model: str, scenes: Scenes, width: float, weights: Path) -> Network:
    net = load_model(model, classes=len(scenes.classes), width=width, weights=weights)
    channels, height, size = scenes.test[0][0].shape
    net.input_size = (channels, height, size)
    return net


def _site(setting: Setting, site: str | None) -> str:
    trained = setting.trained("ssb")
    if site is None and len(trained) > 1:
        raise InputError(f"site: there are bottlenecks at {', '.join(trained)}; say which with --site.")
    return site or (trained[0] if trained else DEFAULT_SITE)


def _size(crop: list[int] | str | None) -> tuple[int, ...] | None:
    found = measures("crop", crop, 2)
    return None if found is None else tuple(int(v) for v in found)


def _box(box: list[float] | str | None) -> Box | None:
    found = measures("box", box, 4)
    return None if found is None else (found[0], found[1], found[2], found[3])


def _spec(concepts: Path | None) -> dict[str, Any] | None:
    plain = None if concepts is None else read_json(concepts)
    if plain is not None and not isinstance(plain, dict):
        raise InputError(f'concepts={str(concepts)!r} must hold an object, such as {{"colours": true}}.')
    return plain


def _recipe(epochs: int | None, lr: float | None) -> SceneRecipe:
    return SceneRecipe(**{**TUNING.to_dict(), **given_only({"epochs": epochs, "lr": lr})})


def _setting(model: str, data: str, width: float, weights: Path, out: Path, weights_folder: Path | None) -> Setting:
    scenes = load_scenes(data)
    return reopened(_network(model, scenes, width, weights), scenes, out, weights=weights_folder)
