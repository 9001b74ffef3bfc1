"""The worker of the location test: train one network to predict in which square of a canvas a picture lies, test it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whatwhere.data import Split
from whatwhere.errors import TrainingDiverged
from whatwhere.fingerprints import fingerprint
from whatwhere.hold.padding import PaddingMode, with_padding
from whatwhere.hold.permute import permute_net
from whatwhere.lab.once import PreparedOnce
from whatwhere.lab.packed import pack
from whatwhere.lab.sources import GivenData, place
from whatwhere.models.load import load_model
from whatwhere.network import Network, Preprocessing
from whatwhere.training.recipes import Recipe


@dataclass(frozen=True)
class Change:
    """What a row of the test changes.

    Attributes:
        label: how tables call it.
        padding: mode of `with_padding`.
        permute: redraw the order of the pooled channels in every forward pass.
        shuffled: train on the squares of other pictures.
    """

    label: str
    padding: PaddingMode = "zeros"
    permute: bool = False
    shuffled: bool = False


ROWS: dict[str, Change] = {
    "zeros": Change("zero padding"),
    "circular": Change("circular padding", padding="circular"),
    "permute": Change("zero padding, channels permuted", permute=True),
    "shuffled": Change("control: zero padding, squares shuffled", shuffled=True),
    "reflect": Change("reflect padding", padding="reflect"),
    "replicate": Change("replicate padding", padding="replicate"),
}


@dataclass(frozen=True)
class LocationWorker(PreparedOnce):
    """Trains and tests one network.

    Attributes:
        data: the pictures.
        most: to train on.
        most_test: to test on.
        preprocessing: of every network.
        device: to train on.
    """

    data: GivenData
    most: int
    most_test: int
    preprocessing: Preprocessing
    device: str = "auto"

    @cached_property
    def train(self) -> Tensor:
        """(N, C, H, W), normalised, float32: to train on."""
        return self._prepared(self.data.data.train.take(self.most))

    @cached_property
    def test(self) -> Tensor:
        """Likewise, to test on."""
        return self._prepared(self.data.data.test.take(self.most_test))

    def _prepared(self, split: Split) -> Tensor:
        batches = split.batches(256, geometry=self.preprocessing)
        return torch.cat([self.preprocessing.normalise(images) for images, _ in batches]).contiguous()

    def __call__(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Run one cell."""
        return run(self.train, self.test, config, self.device)


def run(train: Tensor, test: Tensor, config: Mapping[str, Any], device: str = "auto") -> dict[str, Any]:
    """Train and test the network of a cell; the same configuration gives the same numbers.

    Args:
        train: (N, C, H, W), normalised, float32.
        test: likewise.
        config: the cell's.
        device: to train on.
    """
    module = place(build(config, train.shape[1:]), device).module
    recipe = Recipe.of(config["recipe"])
    train_loss = _train(module, train, recipe, config)
    right = _test(module, test, config["grid"], recipe)
    hits, weights = pack(right.numpy().astype(np.uint8)), fingerprint(module)
    return {"n": len(right), "right": int(right.sum()), "hits": hits, "train_loss": train_loss, "weights": weights}


def build(config: Mapping[str, Any], picture: torch.Size | tuple[int, ...]) -> Network:
    """The network of a cell before its training: one score for each square of the canvas."""
    grid, row, net = config["grid"], ROWS[config["row"]], unpasted(config)
    net.input_size = (picture[0], grid * picture[1], grid * picture[2])
    padded = net if row.padding == "zeros" else with_padding(net, row.padding)
    return permute_net(padded, seed=config["seed"]) if row.permute else padded


def unpasted(config: Mapping[str, Any]) -> Network:
    """The network by name, before a row changes it."""
    scores, width = config["grid"] ** 2, config["width"]
    return load_model(config["model"], classes=scores, width=width, seed=config["seed"], fresh=True)


def paste(pictures: Tensor, squares: Tensor, grid: int) -> Tensor:
    """Each picture in one square of a canvas that is 0 elsewhere, as zero padding is.

    Args:
        pictures: (N, C, H, W), normalised.
        squares: (N,), from 0 (top left) row by row to grid² - 1.
        grid: squares in a row and in a column.

    Returns:
        (N, C, grid * H, grid * W).
    """
    n, channels, height, width = pictures.shape
    canvas = pictures.new_zeros(n, channels, grid, height, grid, width)
    canvas[torch.arange(n), :, squares // grid, :, squares % grid] = pictures
    return canvas.view(n, channels, grid * height, grid * width)


def _train(module: nn.Module, pictures: Tensor, recipe: Recipe, config: Mapping[str, Any]) -> float:
    """Train in place, every picture in a new square each epoch; the mean loss of the last epoch."""
    draws = torch.Generator().manual_seed(config["seed"] + 1_000_003)
    optimizer = torch.optim.AdamW(module.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    steps = len(pictures) // recipe.batch_size
    module.train()
    losses = [0.0]
    for step, (x, squares) in enumerate(_batches(pictures, recipe, config["grid"], draws)):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * recipe.factor(step, steps)
        if step == steps * recipe.epochs // 2:
            _freeze_statistics(module)
        goal = squares[torch.randperm(len(squares), generator=draws)] if ROWS[config["row"]].shuffled else squares
        scores = _scores(module, x, recipe)
        loss = nn.functional.cross_entropy(scores, goal.to(scores.device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(_finite(loss.item(), step, recipe.lr))
    return sum(losses[-steps:]) / steps


def _freeze_statistics(module: nn.Module) -> None:
    """From here on batch norm uses its running statistics, as it will in the test.

    Where a picture lies shows in small differences between pooled means. Networks trained to the end on the statistics
    of each batch predicted nearly all squares with those, and in some runs one in nine with the running ones.
    """
    for m in module.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            m.eval()


def _scores(module: nn.Module, x: Tensor, recipe: Recipe) -> Tensor:
    device = next(module.parameters()).device
    # Not channels last: PyTorch 2.15 crashes in the backward pass of a strided 1 x 1 convolution of 8 channels so.
    with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16-mixed"):
        return module(x.to(device)).float()


def _batches(pictures: Tensor, recipe: Recipe, grid: int, draws: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Canvases and their squares, epoch by epoch; the last, smaller batch of an epoch is left out."""
    for _ in range(recipe.epochs):
        order = torch.randperm(len(pictures), generator=draws)
        squares = torch.randint(grid**2, (len(pictures),), generator=draws)
        for rows in order.split(recipe.batch_size)[: len(pictures) // recipe.batch_size]:
            yield paste(pictures[rows], squares[rows], grid), squares[rows]


def _finite(loss: float, step: int, lr: float) -> float:
    if loss - loss != 0:  # neither NaN nor infinite survives this
        raise TrainingDiverged(f"the loss is {loss} at step {step + 1} with lr={lr}; give a recipe with a lower lr.")
    return loss


@torch.no_grad()
def _test(module: nn.Module, pictures: Tensor, grid: int, recipe: Recipe) -> Tensor:
    """(N,), whether each picture's square is predicted; where each lies is the same for every network."""
    module.eval()
    squares = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(2_000_003)) % grid**2
    parts = zip(pictures.split(recipe.batch_size), squares.split(recipe.batch_size), strict=True)
    return torch.cat([_scores(module, paste(x, s, grid), recipe).argmax(1).cpu() == s for x, s in parts])
