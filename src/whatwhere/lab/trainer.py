"""What workers that train networks share: where checkpoints and weights are, and one way to train with progress."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whatwhere.data import Data, Split
from whatwhere.errors import InputError
from whatwhere.lab.cells import Cell, Worker
from whatwhere.lab.progress import Meter
from whatwhere.lab.sources import GivenData
from whatwhere.models.weights import load_weights, save_weights
from whatwhere.network import Network
from whatwhere.training.fit import History, fit
from whatwhere.training.recipes import Recipe


@dataclass(frozen=True)
class Trainer(Worker):
    """A worker that trains networks and keeps their weights.

    Attributes:
        source: where the pictures are.
        folder: gets checkpoints while training, trained weights after.
        device: Fabric's accelerator.
    """

    source: GivenData
    folder: Path
    device: str = "auto"

    @property
    def data(self) -> Data:
        """The pictures."""
        return self.source.data

    def checkpoint(self, cell: Cell) -> Path:
        """Where a cell's training stands, until its result is stored."""
        return self.folder / "checkpoints" / f"{cell.key}.pt"

    def weights(self, config: Mapping[str, Any]) -> Path:
        """Where a cell's trained weights are."""
        return self.folder / "weights" / f"{Cell(config).key}.safetensors"

    def stored(self, cell: Cell) -> None:
        """A cell whose result is stored needs no checkpoint."""
        self.checkpoint(cell).unlink(missing_ok=True)

    def trained(self, net: Network, config: Mapping[str, Any], title: str, **options: Any) -> History:
        """Train the network of a cell in place, from its checkpoint if there is one, and keep its weights.

        Args:
            net: before its training.
            config: the cell's, with `recipe` and `seed`.
            title: of the progress.
            **options: further ones of `fit`.
        """
        history = self.fitted(net, self.data.train, config, title, **options)
        self.keep(net, config)
        return history

    def fitted(self, net: Network, train: Split, config: Mapping[str, Any], title: str, **options: Any) -> History:
        """Train a network in place, from the cell's checkpoint if there is one.

        Args:
            net: before its training.
            train: what it is trained on.
            config: the cell's, with `recipe` and `seed`.
            title: of the progress.
            **options: further ones of `fit`.
        """
        recipe = Recipe.of(config["recipe"])
        with Meter(title, recipe.epochs * (len(train) // recipe.batch_size)) as meter:
            return fit(
                net,
                train,
                recipe,
                seed=config["seed"],
                device=self.device,
                file=self.checkpoint(Cell(config)),
                on_step=lambda done, total: meter.update(done),
                **options,
            )

    def keep(self, net: Network, config: Mapping[str, Any]) -> None:
        """Write what was trained where `weights` says."""
        save_weights(net.module, self.weights(config))

    def load(self, net: Network, config: Mapping[str, Any]) -> Network:
        """The network with the weights that a cell trained, in place.

        Raises:
            InputError: if the weights are gone.
        """
        file = self.weights(config)
        if not file.is_file():
            raise InputError(
                f"{file} is missing: the trained network was not kept. If it was moved, give weights_folder; else "
                f"delete cells/{Cell(config).key}.json, and the same command trains it again."
            )
        load_weights(net.module, file)
        return net
