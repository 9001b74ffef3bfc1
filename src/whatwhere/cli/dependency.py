"""The command `whatwhere dependency`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from whatwhere.cli.arguments import adapted, announced, given_only, listed, numbers, only_for, placed
from whatwhere.cli.arguments import shares as as_shares
from whatwhere.data import Data, load_data
from whatwhere.errors import InputError
from whatwhere.models.load import load_model
from whatwhere.studies.demo import demo
from whatwhere.studies.dependency.curve import dependency as dependency_curve
from whatwhere.studies.dependency.result import DependencyResult
from whatwhere.studies.dependency.study import dependency_study
from whatwhere.training.recipes import recipe_named


def dependency(
    model: str | None = None,
    data: str | None = None,
    protocol: Literal["curve", "study"] = "curve",
    weights: Path | None = None,
    pretrained: bool = False,
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
    shares: list[float] | float | str | None = None,
    seeds: list[int] | int | str | None = None,
    matrix: list[float] | float | str | None = None,
    plain_shares: list[float] | float | str | None = None,
    weights_folder: Path | None = None,
    workers: int = 0,
    device: str = "auto",
    run: bool = True,
) -> None:
    """Measure how much a network needs spatial information; without arguments, run the demo.

    Args:
        model: timm/NAME, torchvision/NAME, or cifar/NAME.
        data: hf/ID, a folder, known/what, known/where, known/surroundings, or digits.
        protocol: "curve" removes at test time from a trained network; "study" trains and tests without, as the paper.
        weights: curve: a .safetensors file of the trained network.
        pretrained: curve: the library's own weights, which it downloads.
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
        shares: study: shares of the convolutions that lose spatial information, such as 0.31,0.54.
        seeds: study: one network for each, such as 0,1,2.
        matrix: study: which of them train-mode x test-mode is measured at; the first if not given.
        plain_shares: study: shares (0 is intact) also trained without augmentation.
        weights_folder: study: for checkpoints and trained weights, if not in out.
        workers: study: processes side by side.
        device: auto, cpu, cuda or mps.
        run: study: false only folds the cells that are there.
    """
    if model is None and data is None and protocol == "curve":
        print(f"open {demo(out or Path('demo'), within=within)}")
        return
    if model is None or data is None:
        raise InputError("give both --model and --data, or neither for the demo.")
    of_curve = {
        "sites": (sites, None), "reach": (reach, "from"), "tolerance": (tolerance, None), "limit": (limit, None),
        "seed": (seed, 0), "weights": (weights, None), "pretrained": (pretrained, False),
    }  # fmt: skip
    of_study = {
        "recipe": (recipe, "fast"), "epochs": (epochs, None), "lr": (lr, None), "precision": (precision, None),
        "shares": (shares, None), "seeds": (seeds, None), "matrix": (matrix, None), "run": (run, True),
        "plain_shares": (plain_shares, None), "weights_folder": (weights_folder, None), "workers": (workers, 0),
    }  # fmt: skip
    only_for(*(("curve", of_curve) if protocol == "study" else ("study", of_study)))
    shared = {"methods": listed(methods), "repeats": repeats, "within": within}
    if protocol == "study":
        if out is None:
            raise InputError("protocol=study keeps the networks it trains: give --out DIR.")
        how = adapted(recipe_named(recipe), True, epochs=epochs, lr=lr, precision=precision, batch_size=batch_size)
        lists = {"shares": shares, "matrix": matrix, "plain_shares": plain_shares}
        grid = {**{name: as_shares(value) for name, value in lists.items()}, "seeds": numbers(seeds), **shared}
        bench = {"weights": weights_folder, "workers": workers, "device": device, "run": run}
        study = dependency_study(model, data, out=out, recipe=how, width=width, **given_only(grid), **given_only(bench))
        print(f"open {out / 'index.html'}\n{_last_line(study)}")
        return
    pictures = load_data(data)
    if not pictures.classes:
        raise InputError(f"data={data!r}: these pictures have no labels; accuracy needs them, as class folders say.")
    classes = None if pretrained else len(pictures.classes)  # another number would draw the last layer anew
    loaded = load_model(model, weights=weights, pretrained=pretrained, classes=classes, width=width)
    net = announced(placed(loaded, device))
    how_much = {"sites": listed(sites), "reach": reach, "tolerance": tolerance, "seed": seed, "batch_size": batch_size}
    out = out or Path("out")
    curve = dependency_curve(net, _limited(pictures, limit), out=out, **given_only(how_much), **given_only(shared))
    print(f"open {out / 'index.html'}\n{_last_line(curve)}")


def _last_line(result: DependencyResult) -> str:
    return result.recommendation.text if result.recommendation else "see the table: nothing was to be recommended."


def _limited(pictures: Data, limit: int | None) -> Data:
    return pictures if limit is None else Data(pictures.name, {"test": pictures.test.take(limit)})
