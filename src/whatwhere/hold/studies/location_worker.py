"""The worker of the location test: train one network to predict in which square of a canvas a picture lies, test it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whatwhere.data import Split
from whatwhere.fingerprints import fingerprint
from whatwhere.hold.padding import PaddingMode, with_padding
from whatwhere.hold.permute import permute_net
from whatwhere.lab.once import PreparedOnce
from whatwhere.lab.packed import pack
from whatwhere.lab.sources import GivenData, place
from whatwhere.models.load import load_model
from whatwhere.network import Network, Preprocessing
from whatwhere.training.feed import Feed
from whatwhere.training.fit import fit
from whatwhere.training.objectives import Loss
from whatwhere.training.recipes import Recipe
from whatwhere.training.scores import check_scores


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
    net = place(build(config, train.shape[1:]), device)
    train_loss, module = _train(net, train, config, device), net.module
    right = _test(module, test, config["grid"], Recipe.of(config["recipe"]))
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


@dataclass(frozen=True)
class Pictures:
    """What networks are trained on.

    Attributes:
        normalised: (N, C, H, W), float32.
    """

    normalised: Tensor

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.normalised)

    @property
    def fingerprint(self) -> str:
        """Of no use: a cell keeps no checkpoint."""
        return ""


@dataclass(frozen=True)
class Locate:
    """The task: the square of each picture, a new one in every epoch.

    Attributes:
        recipe: its `batch_size`.
        grid: squares in a row and in a column.
        shuffled: learn the squares of other pictures of the batch.
    """

    recipe: Recipe
    grid: int
    shuffled: bool = False

    def batches(
        self, train: Pictures, order: Tensor, draws: torch.Generator, feed: Feed
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Canvases (N, C, grid * H, grid * W) and the squares to learn, (N,)."""
        pictures, squares = (
            train.normalised.to(feed.device),
            torch.randint(self.grid**2, (len(train),), generator=draws),
        )
        for rows in order.split(self.recipe.batch_size):
            there = squares[rows]
            goal = there[torch.randperm(len(there), generator=draws)] if self.shuffled else there
            yield paste(pictures[rows.to(feed.device)], there.to(feed.device), self.grid), goal

    def check(self, output: Tensor, train: Pictures) -> None:
        """A score for each square."""
        check_scores(output, torch.tensor([self.grid**2 - 1]))

    def loss(self, output: Tensor, squares: Tensor) -> Loss:
        """Cross-entropy of scores (N, squares)."""
        scores = output.float()
        right = (scores.detach().argmax(1) == squares).sum()
        return Loss(nn.functional.cross_entropy(scores, squares), right, len(squares))


def _train(net: Network, pictures: Tensor, config: Mapping[str, Any], device: str) -> float:
    """Train in place, every picture in a new square each epoch; the mean loss of the last epoch.

    In the second half batch norm uses its running statistics, as it will in the test. Where a picture lies shows in
    small differences between pooled means. Networks trained to the end on the statistics of each batch predicted nearly
    all squares with those, and in some runs one in nine with the running ones.

    Not channels last: PyTorch 2.15 crashes in the backward pass of a strided 1 x 1 convolution of 8 channels so.
    """
    recipe = replace(Recipe.of(config["recipe"]), settled=0.5, channels_last=False)
    task = Locate(recipe, config["grid"], ROWS[config["row"]].shuffled)
    seed = config["seed"] + 1_000_003
    history = fit(net, Pictures(pictures), recipe, seed=seed, device=device, objective=task)
    return history.epochs[-1]["loss"]


def _scores(module: nn.Module, x: Tensor, recipe: Recipe) -> Tensor:
    device = next(module.parameters()).device
    with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16-mixed"):
        return module(x.to(device)).float()


@torch.no_grad()
def _test(module: nn.Module, pictures: Tensor, grid: int, recipe: Recipe) -> Tensor:
    """(N,), whether each picture's square is predicted; where each lies is the same for every network."""
    module.eval()
    squares = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(2_000_003)) % grid**2
    parts = zip(pictures.split(recipe.batch_size), squares.split(recipe.batch_size), strict=True)
    return torch.cat([_scores(module, paste(x, s, grid), recipe).argmax(1).cpu() == s for x, s in parts])
