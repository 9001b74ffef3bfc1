"""The command `whatwhere position`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from whatwhere.cli.arguments import announced, given_only, listed, numbers, only_for
from whatwhere.data import load_data
from whatwhere.errors import InputError
from whatwhere.models.load import load_model
from whatwhere.position import Official
from whatwhere.studies.position.location import location_test
from whatwhere.studies.position.pattern_study import pattern_study
from whatwhere.studies.position.readout import position as position_readout
from whatwhere.studies.position.red_green import red_green


def position(
    model: str | None = None,
    data: str | None = None,
    protocol: Literal["readout", "pattern", "red-green", "location"] = "readout",
    weights: Path | None = None,
    pretrained: bool = False,
    test_data: str | None = None,
    out: Path | None = None,
    sites: list[str] | str | None = None,
    targets: list[str] | str | None = None,
    target_range: Literal["0..1", "-1..1"] = "0..1",
    kernels: list[int] | int | str | None = None,
    readouts: list[str] | str | None = None,
    padding: list[str] | str | None = None,
    layers: int = 1,
    readout_padding: int = 0,
    untrained: int | None = None,
    input_size: int | None = None,
    pictures: int | None = None,
    test_pictures: int | None = None,
    margin: int = 32,
    classes: int | None = None,
    width: float = 1.0,
    seed: int = 0,
    seeds: list[int] | int | str | None = None,
    epochs: int | None = None,
    grid: int = 3,
    batch_size: int | None = None,
    workers: int = 0,
) -> None:
    """Measure how much absolute position a network's features hold, and where it comes from.

    Args:
        model: timm/NAME, torchvision/NAME, or cifar/NAME; not needed for red-green.
        data: pictures, with or without labels: hf/ID, a folder, known/what, digits; not needed for red-green.
        protocol: "readout" reads position out of frozen features (PosENet), site by site, beside its controls;
            "pattern" measures what padding adds to the features; "red-green" trains small networks that could use
            location (no data needed); "location" asks where a picture lies, behind global average pooling.
        weights: a .safetensors file of the trained network.
        pretrained: the library's own weights, which it downloads.
        test_data: readout: other pictures to test on.
        out: folder for result.json, table.csv, the figures and index.html; run again to go on.
        sites: readout, pattern: where to read: "levels" (the last map of each resolution), "resnet", or a selection.
        targets: readout: H, V, G, HS, VS.
        target_range: readout: of the targets.
        kernels: readout: k of the k x k read-outs.
        readouts: readout: ridge (closed form), official (gradient descent, as published).
        padding: zeros, reflect, replicate, circular, none, f-conv: the paddings to measure; red-green, location: to
            train with (location: zeros, circular, reflect, replicate; its controls are always trained).
        layers: readout: convolutions of the official read-out, 1 to 3.
        readout_padding: readout: zeros around the features.
        untrained: readout, pattern: untrained networks to measure as a control.
        input_size: height and width of the pictures, instead of the network's own.
        pictures: readout, location: to fit or train on; pattern: to measure.
        test_pictures: readout, location: to test on.
        margin: pattern: pixels of true surroundings on each side.
        classes: number of scores of the network.
        width: width factor of cifar/ networks.
        seed: readout: of the division of the pictures.
        seeds: red-green, location: one network for each, such as 0,1,2.
        epochs: red-green, location: of training.
        grid: location: cells per side.
        batch_size: pictures in a forward pass, or in a step.
        workers: red-green, location: processes side by side.
    """
    every, trains = ("readout", "pattern", "red-green", "location"), ("red-green", "location")
    of: dict[str, tuple[tuple[str, ...], Any, Any]] = {
        "test_data": (every[:1], test_data, None), "targets": (every[:1], targets, None),
        "target_range": (every[:1], target_range, "0..1"), "kernels": (every[:1], kernels, None),
        "readouts": (every[:1], readouts, None), "layers": (every[:1], layers, 1), "seed": (every[:1], seed, 0),
        "readout_padding": (every[:1], readout_padding, 0), "sites": (every[:2], sites, None),
        "untrained": (every[:2], untrained, None), "input_size": (every[:2], input_size, None),
        "margin": (every[1:2], margin, 32), "pretrained": (every[:2], pretrained, False),
        "seeds": (trains, seeds, None), "epochs": (trains, epochs, None), "workers": (trains, workers, 0),
        "grid": (every[3:], grid, 3), "test_pictures": (("readout", "location"), test_pictures, None),
    }  # fmt: skip
    for name, (those, value, default) in of.items():
        if protocol not in those:
            only_for(" or ".join(those), {name: (value, default)})
    out = out or Path("out")
    many = {"seeds": numbers(seeds), "epochs": epochs, "out": out, "workers": workers}
    common = {"sites": listed(sites), "paddings": listed(padding), "untrained": untrained, "pictures": pictures}
    if protocol == "red-green":
        result: Any = red_green(**given_only({**many, "paddings": listed(padding)}))
    elif data is None or (model is None and protocol != "location"):
        raise InputError(f"protocol={protocol} needs --model and --data (location: --data); red-green needs neither.")
    elif protocol == "location":
        sizes = {"pictures": pictures, "test_pictures": test_pictures, "batch_size": batch_size}
        rows = None if padding is None else [*(listed(padding) or []), "permute", "shuffled"]
        named = {"model": model, "width": width if width != 1.0 else None, "rows": rows}
        result = location_test(load_data(data), grid=grid, **given_only({**many, **sizes, **named}))
    else:
        loaded = load_model(str(model), weights=weights, pretrained=pretrained, classes=classes, width=width)
        net = announced(loaded)
        chosen = given_only({**common, "input_size": input_size, "batch_size": batch_size, "out": out})
        if protocol == "pattern":
            result = pattern_study(net, data, margin=margin, **chosen)
        else:
            how = {
                "targets": listed(targets), "kernels": numbers(kernels), "readouts": listed(readouts),
                "official": Official(layers=layers),
            }  # fmt: skip
            result = position_readout(
                net, data, test=test_data, range=target_range, padding=readout_padding, seed=seed,
                **given_only({**how, "test_pictures": test_pictures}), **chosen,
            )  # fmt: skip
    print(f"open {out / 'index.html'}\n{result.conclusion}")
