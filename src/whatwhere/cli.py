"""The command `whatwhere`: typed functions, no logic of their own."""

from __future__ import annotations

import sys
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any, Literal

from jsonargparse import DefaultHelpFormatter, auto_cli

from whatwhere.data import Data, load_data
from whatwhere.dependency.collapse import collapse as collapse_network
from whatwhere.errors import InputError, TrainingDiverged
from whatwhere.files import write_json
from whatwhere.models.load import load_model, save_weights
from whatwhere.network import Network
from whatwhere.runs.progress import Meter
from whatwhere.sites import format_table, list_sites
from whatwhere.studies.demo import demo, load_result
from whatwhere.studies.dependency.curve import dependency as dependency_curve
from whatwhere.studies.dependency.result import DependencyResult
from whatwhere.studies.dependency.study import dependency_study
from whatwhere.training.evaluate import evaluate
from whatwhere.training.fit import fit
from whatwhere.training.recipes import Recipe, recipe_named


def main(arguments: list[str] | None = None) -> None:
    """Run a command; a mistake is told in one line, an interruption says how to go on."""
    commands: Any = {f.__name__: f for f in (sites, train, dependency, collapse, report)}
    try:
        auto_cli(
            commands, args=arguments, as_positional=False, prog="whatwhere", description=DESCRIPTION,
            formatter_class=Help,
        )  # fmt: skip
    except (InputError, TrainingDiverged) as error:
        print(f"whatwhere: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nwhatwhere: stopped. What was finished is kept; the same command goes on from there.", file=sys.stderr)
        sys.exit(130)


class Help(DefaultHelpFormatter, RawDescriptionHelpFormatter):
    """Help that keeps the line breaks of descriptions."""


DESCRIPTION = """How much "where" is in your "what"?

  whatwhere dependency                          the demo: networks whose answer is known, in 3 minutes
  whatwhere sites --model timm/resnet18         every place where a spatial map flows
  whatwhere dependency --model M --data D       what a trained network loses without spatial information
  whatwhere collapse --model M --site S --out F the smaller network (GAP+FC)
"""


def sites(
    model: str,
    weights: Path | None = None,
    classes: int | None = None,
    width: float = 1.0,
    kind: str | None = None,
    select: str | None = None,
    input_size: tuple[int, int, int] | None = None,
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
    """
    net = load_model(model, weights=weights, classes=classes, width=width)
    table = list_sites(net, input_size=input_size)
    chosen = table.select(select)
    print(format_table(s for s in chosen if kind in (None, s.kind)))
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
        data: hf/ID, a folder, known/what, known/where, or digits.
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


def adapted(recipe: Recipe, augment: bool, **changes: float | str | None) -> Recipe:
    """A recipe with some of its values replaced where something else was asked for."""
    values = {**recipe.to_dict(), **{k: v for k, v in changes.items() if v is not None}}
    changed = Recipe(**values)
    return changed if augment else changed.without_augmentation()


def dependency(
    model: str | None = None,
    data: str | None = None,
    protocol: Literal["curve", "study"] = "curve",
    weights: Path | None = None,
    out: Path | None = None,
    methods: list[str] | str | None = None,
    sites: list[str] | str | None = None,
    reach: Literal["from"] | int = "from",
    repeats: int = 10,
    tolerance: float | None = None,
    within: float = 0.01,
    limit: int | None = None,
    batch_size: int | None = None,
    width: float = 1.0,
    seed: int = 0,
    recipe: str = "fast",
    epochs: int | None = None,
    lr: float | None = None,
    precision: Literal["32-true", "bf16-mixed"] | None = None,
    shares: list[float] | float | None = None,
    seeds: list[int] | int | None = None,
    matrix: list[float] | float | None = None,
    plain_shares: list[float] | float | None = None,
    weights_folder: Path | None = None,
    workers: int = 0,
    device: str = "auto",
    run: bool = True,
) -> None:
    """Measure how much a network needs spatial information; without arguments, run the demo.

    Args:
        model: timm/NAME, torchvision/NAME, or cifar/NAME.
        data: hf/ID, a folder, known/what, known/where, or digits.
        protocol: "curve" removes at test time from a trained network; "study" trains and tests without, as the paper.
        weights: curve: a .safetensors file of the trained network.
        out: folder for result.json, table.csv, the figures and index.html; run again to go on.
        methods: shuffle modes (per-channel, shared, all, channel, channel-per-position, block, rows, columns, fixed),
            mean, gap_fc; one, or several with commas.
        sites: curve: where to cut; every k x k convolution or residual block if not given.
        reach: curve: "from" removes from the cut to the end, n at n cuts.
        repeats: draws of every shuffle.
        tolerance: curve: give a cut only as many draws as keep its interval within this factor, such as 0.01.
        within: loss that the recommendation may cost; 0.01 is one point.
        limit: curve: at most so many test pictures, the same from every class.
        batch_size: pictures in a forward pass (curve), or in a step (study).
        width: width factor of cifar/ networks.
        seed: curve: of the draws.
        recipe: study: how to train.
        epochs: study: instead of the recipe's.
        lr: study: instead of the recipe's.
        precision: study: instead of the recipe's.
        shares: study: shares of the convolutions that lose spatial information, such as 0.31 0.54.
        seeds: study: one network for each.
        matrix: study: shares at which train-mode x test-mode is measured.
        plain_shares: study: shares (0 is intact) also trained without augmentation.
        weights_folder: study: for checkpoints and trained weights, if not in out.
        workers: study: processes side by side.
        device: auto, cpu, cuda or mps.
        run: study: false only folds the cells that are there.
    """
    if model is None and data is None:
        print(f"open {demo(out or Path('demo'), within=within)}")
        return
    if model is None or data is None:
        raise InputError("give both --model and --data, or neither for the demo.")
    shared = {"methods": _listed(methods), "repeats": repeats, "within": within}
    if protocol == "study":
        if out is None or weights is not None:
            raise InputError("protocol=study trains its own networks: give --out DIR, and no --weights.")
        how = adapted(recipe_named(recipe), True, epochs=epochs, lr=lr, precision=precision, batch_size=batch_size)
        lists = {"shares": shares, "seeds": seeds, "matrix": matrix, "plain_shares": plain_shares}
        grid = {**{name: _listed(value) for name, value in lists.items()}, **shared}
        bench = {"weights": weights_folder, "workers": workers, "device": device, "run": run}
        study = dependency_study(model, data, out=out, recipe=how, width=width, **_given(grid), **_given(bench))
        print(f"open {out / 'index.html'}\n{_last_line(study)}")
        return
    pictures = load_data(data)
    net = load_model(model, weights=weights, classes=len(pictures.classes), width=width)
    how_much = {"sites": _listed(sites), "reach": reach, "tolerance": tolerance, "seed": seed, "batch_size": batch_size}
    out = out or Path("out")
    curve = dependency_curve(net, _limited(pictures, limit), out=out, **_given(how_much), **_given(shared))
    print(f"open {out / 'index.html'}\n{_last_line(curve)}")


def _last_line(result: DependencyResult) -> str:
    return result.recommendation.text if result.recommendation else ""


def _listed(value: Any) -> list[Any] | None:
    """What was given once, several times ([a, b]) or with commas (a,b), as a list."""
    if value is None or isinstance(value, list):
        return value
    return value.split(",") if isinstance(value, str) else [value]


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given; the others keep the default of whom they are for."""
    return {name: value for name, value in options.items() if value is not None}


def _limited(pictures: Data, limit: int | None) -> Data:
    return pictures if limit is None else Data(pictures.name, {"test": pictures.test.take(limit)})


def collapse(
    model: str,
    site: str,
    out: Path,
    weights: Path | None = None,
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
        data: also measure both networks on these pictures.
        classes: number of scores.
        width: width factor of cifar/ networks.
        init: kernel-sum keeps what a trained network does to constant maps; fresh draws the later layers anew.
        seed: of fresh.
    """
    net = load_model(model, weights=weights, classes=classes, width=width)
    small = collapse_network(net, site, init=init, seed=seed)
    assert isinstance(small, Network)
    print(small.module.surgery)
    save_weights(small.module, out)
    print(f"wrote {out}; to load it, collapse({model!r}, {site!r}) and load these weights")
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
