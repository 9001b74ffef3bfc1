"""Where a trainer keeps what: checkpoints while training, weights after, and a clear word when they are gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from whatwhere.data import Data, Split
from whatwhere.data.sources import Memory
from whatwhere.errors import InputError
from whatwhere.lab import trainer as module
from whatwhere.lab.cells import Cell
from whatwhere.lab.sources import GivenData
from whatwhere.lab.trainer import Trainer
from whatwhere.models.weights import save_weights
from whatwhere.network import Network
from whatwhere.training.recipes import Recipe

CONFIG = {"seed": 5, "recipe": Recipe(epochs=3, batch_size=4).to_dict()}


def trainer(folder: Path) -> Trainer:
    images, labels = torch.zeros(10, 3, 4, 4, dtype=torch.uint8), torch.arange(10) % 2
    data = Data("few", {"train": Split("train", Memory(images), labels, ["a", "b"])})
    return Trainer(GivenData.of(data), folder, "cpu")


def network(value: float) -> Network:
    net = nn.Linear(2, 2)
    nn.init.constant_(net.weight, value)
    return Network(net, name="line")


def test_files_are_named_by_the_cell(tmp_path: Path) -> None:
    key, here = Cell(CONFIG).key, trainer(tmp_path)
    assert here.checkpoint(Cell(CONFIG)) == tmp_path / "checkpoints" / f"{key}.pt"
    assert here.weights(CONFIG) == tmp_path / "weights" / f"{key}.safetensors"


def test_a_stored_cell_needs_no_checkpoint(tmp_path: Path) -> None:
    here, cell = trainer(tmp_path), Cell(CONFIG)
    here.stored(cell)  # none was written
    here.checkpoint(cell).parent.mkdir()
    here.checkpoint(cell).write_text("half way")
    here.stored(cell)
    assert not here.checkpoint(cell).exists()


def test_weights_come_back_in_place(tmp_path: Path) -> None:
    here, kept = trainer(tmp_path), network(2.5)
    save_weights(kept.module, here.weights(CONFIG))
    net = network(0.0)
    assert here.load(net, CONFIG) is net
    assert all(torch.equal(v, kept.module.state_dict()[k]) for k, v in net.module.state_dict().items())


def test_weights_that_are_gone_say_how_to_get_them_back(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"delete cells/{Cell(CONFIG).key}\.json"):
        trainer(tmp_path).load(network(0.0), CONFIG)


def test_training_is_by_the_cells_recipe_and_seed_and_keeps_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def fit(net: Network, split: Split, recipe: Recipe, **options: Any) -> str:
        nn.init.constant_(net.module.weight, 1.5)  # type: ignore[arg-type]
        asked.update(options, pictures=len(split), recipe=recipe)
        options["on_step"](6, 6)
        return "history"

    monkeypatch.setattr(module, "fit", fit)
    here, net = trainer(tmp_path), network(0.0)
    assert here.trained(net, CONFIG, "training", keep=True) == "history"  # type: ignore[comparison-overlap]
    asked.pop("on_step")
    assert asked == {
        "pictures": 10,
        "recipe": Recipe(epochs=3, batch_size=4),
        "seed": 5,
        "device": "cpu",
        "file": here.checkpoint(Cell(CONFIG)),
        "keep": True,
    }
    assert here.load(network(0.0), CONFIG).module.weight[0, 0] == 1.5  # type: ignore[index]
