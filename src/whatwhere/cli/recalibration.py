"""The command `whatwhere recalibration`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from whatwhere.cli.arguments import adapted, given_only, listed, numbers
from whatwhere.studies.recalibration.study import recalibration_study, verdict
from whatwhere.training.recipes import recipe_named


def recalibration(
    model: str,
    data: str,
    out: Path,
    methods: list[str] | str | None = None,
    seeds: list[int] | int | str | None = None,
    recipe: str = "fast",
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    precision: Literal["32-true", "bf16-mixed"] | None = None,
    augment: bool = True,
    width: float = 1.0,
    weights_folder: Path | None = None,
    workers: int = 0,
    device: str = "auto",
    run: bool = True,
) -> None:
    """Train a network with and without recalibration, and compare.

    Args:
        model: timm/NAME, torchvision/NAME, or cifar/NAME, with residual blocks or dense layers.
        data: hf/ID, a folder, known/what, known/where, or digits.
        out: folder for cells, result.json, table.csv, the figure and index.html; run again to go on.
        methods: none, se, ms_sar, ms_sar-per-cell, ms_sar-bilinear, ms_sar-1-2, ms_sar-2, ms_sar-4, or one of timm's
            attention modules; several with commas.
        seeds: one network for each, such as 0,1,2.
        recipe: fan2020-cifar, fan2020-small-imagenet, fan2020-imagenet, fast, demo.
        epochs: instead of the recipe's.
        batch_size: instead of the recipe's.
        lr: instead of the recipe's.
        precision: instead of the recipe's; bf16-mixed is faster where the processor has bfloat16.
        augment: crop and flip as the recipe says.
        width: width factor of cifar/ networks.
        weights_folder: for checkpoints and trained weights, if not in out.
        workers: processes side by side.
        device: auto, cpu, cuda or mps.
        run: false only folds the cells that are there.
    """
    how = adapted(recipe_named(recipe), augment, epochs=epochs, batch_size=batch_size, lr=lr, precision=precision)
    lists = given_only({"methods": listed(methods), "seeds": numbers(seeds)})
    study = recalibration_study(
        model, data, out=out, recipe=how, width=width, weights=weights_folder, workers=workers, device=device, run=run,
        **lists,
    )  # fmt: skip
    print(f"open {out / 'index.html'}\n{verdict(study.rows)}")
