"""The command `whatwhere recalibration`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from whatwhere.cli.arguments import adapted, given_only, listed, numbers
from whatwhere.errors import InputError
from whatwhere.recalibration.insert import OWN
from whatwhere.studies.recalibration import costs
from whatwhere.studies.recalibration.cell import NONE
from whatwhere.studies.recalibration.costs import recalibration_cost
from whatwhere.studies.recalibration.joint import FOLDER, joint_study
from whatwhere.studies.recalibration.study import NAMED, recalibration_study, verdict
from whatwhere.studies.recalibration.wider import WIDER
from whatwhere.training.recipes import recipe_named


def recalibration(
    model: str,
    data: str,
    out: Path,
    protocol: Literal["compare", "joint", "cost"] = "compare",
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
    sites: list[str] | str | None = None,
    targets: list[str] | str | None = None,
    pictures: int | None = None,
    test_pictures: int | None = None,
    repeats: int | None = None,
    limit: int | None = None,
) -> None:
    """Train a network with and without recalibration, and compare; or look what it holds and needs of *where*.

    Args:
        model: timm/NAME, torchvision/NAME, or cifar/NAME, with residual blocks or dense layers.
        data: hf/ID, a folder, known/what, known/where, known/surroundings, or digits.
        out: folder for cells, result.json, table.csv, the figure and index.html; run again to go on.
        protocol: "compare" compares accuracies; "joint" also measures how much position each network holds and how
            much it needs, beside its plain twin, into out/joint (networks that are not trained yet are trained first);
            "cost" trains nothing (settings of training are passed over), and tells what each method adds in parameters,
            operations, time and memory, into out/cost.
        methods: METHODS, or one of timm's attention modules; several with commas.
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
        sites: joint: where to read position and to shuffle from; residual or dense blocks if not given.
        targets: joint: H, V, G, HS, VS.
        pictures: joint: to fit the read-outs to.
        test_pictures: joint: to test them on.
        repeats: joint: draws of every shuffle.
        limit: joint: at most so many test pictures to shuffle.
    """
    how = adapted(recipe_named(recipe), augment, epochs=epochs, batch_size=batch_size, lr=lr, precision=precision)
    shared: Any = {
        "out": out, "recipe": how, "width": width, "weights": weights_folder, "workers": workers, "device": device,
        "run": run, **given_only({"methods": listed(methods), "seeds": numbers(seeds)}),
    }  # fmt: skip
    look: Any = given_only({
        "sites": listed(sites), "targets": listed(targets), "pictures": pictures, "test_pictures": test_pictures,
        "repeats": repeats, "limit": limit,
    })  # fmt: skip
    if protocol == "joint":
        joint = joint_study(model, data, **shared, **look)
        print(f"open {out / FOLDER / 'index.html'}\n{joint.conclusion}")
        return
    if look:
        raise InputError(f"{', '.join(look)}: for --protocol joint only.")
    if protocol == "cost":
        recalibration_cost(model, data, out=out, width=width, **given_only({"methods": listed(methods)}))
        print(f"open {out / costs.FOLDER / 'index.html'}")
        return
    study = recalibration_study(model, data, **shared)
    print(f"open {out / 'index.html'}\n{verdict(study.rows)}")


# The help names what there is, and python -OO has no docstrings.
recalibration.__doc__ = (recalibration.__doc__ or "").replace("METHODS", ", ".join([NONE, WIDER, *OWN, *NAMED]))
