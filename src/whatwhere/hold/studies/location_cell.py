"""One cell of the location test: train one network to tell in which cell of a black canvas a picture lies, test it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from whatwhere.errors import TrainingDiverged
from whatwhere.models.load import load_model
from whatwhere.network import Network
from whatwhere.position.padding import PaddingMode, with_padding
from whatwhere.position.permute import permute_net
from whatwhere.training.recipes import Recipe


@dataclass(frozen=True)
class Variant:
    """What a row of the test changes.

    Attributes:
        label: how tables call it.
        padding: mode of `with_padding`.
        permute: redraw the order of the pooled channels in every forward pass.
        shuffled: train on the cells of other pictures.
    """

    label: str
    padding: PaddingMode = "zeros"
    permute: bool = False
    shuffled: bool = False


ROWS: dict[str, Variant] = {
    "zeros": Variant("zero padding"),
    "circular": Variant("circular padding", padding="circular"),
    "permute": Variant("zero padding, channels permuted", permute=True),
    "shuffled": Variant("control: zero padding, cells shuffled", shuffled=True),
    "reflect": Variant("reflect padding", padding="reflect"),
    "replicate": Variant("replicate padding", padding="replicate"),
}


@dataclass(frozen=True)
class Bench:
    """The pictures, which every cell of a study shares: (N, C, H, W) each, normalised, float32."""

    train: Tensor
    test: Tensor

    def __call__(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Run one cell; pure: the same configuration gives the same numbers."""
        net = build(config, self.train.shape[1:])
        recipe = Recipe(**{**config["recipe"], "milestones": tuple(config["recipe"]["milestones"])})
        train_loss = _train(net.module, self.train, recipe, config)
        right = _test(net.module, self.test, config["grid"], recipe)
        return {"n": len(right), "right": int(right.sum()), "train_loss": train_loss}


def build(config: Mapping[str, Any], picture: torch.Size | tuple[int, ...]) -> Network:
    """The network of a cell before its training: one score for each cell of the canvas."""
    grid, row, net = config["grid"], ROWS[config["row"]], unpasted(config)
    net.input_size = (picture[0], grid * picture[1], grid * picture[2])
    padded = net if row.padding == "zeros" else with_padding(net, row.padding)
    built = permute_net(padded, seed=config["seed"]) if row.permute else padded
    assert isinstance(built, Network)
    return built


def unpasted(config: Mapping[str, Any]) -> Network:
    """The network by name, before a row changes it."""
    return load_model(config["model"], classes=config["grid"] ** 2, width=config["width"], seed=config["seed"])


def paste(pictures: Tensor, cells: Tensor, grid: int) -> Tensor:
    """Each picture in one cell of a canvas that is 0 elsewhere, just as zero padding is.

    Args:
        pictures: (N, C, H, W), normalised.
        cells: (N,), from 0 (top left) row by row to grid² - 1.
        grid: cells in a row and in a column.

    Returns:
        (N, C, grid * H, grid * W).
    """
    n, channels, height, width = pictures.shape
    canvas = pictures.new_zeros(n, channels, grid, height, grid, width)
    canvas[torch.arange(n), :, cells // grid, :, cells % grid] = pictures
    return canvas.view(n, channels, grid * height, grid * width)


def _train(module: nn.Module, pictures: Tensor, recipe: Recipe, config: Mapping[str, Any]) -> float:
    """Train in place, every picture in a new cell each epoch; the mean loss of the last epoch."""
    draws = torch.Generator().manual_seed(config["seed"] + 1_000_003)
    optimizer = torch.optim.AdamW(module.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    steps = len(pictures) // recipe.batch_size
    module.train()
    losses = [0.0]
    for step, (x, cells) in enumerate(_batches(pictures, recipe, config["grid"], draws)):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * recipe.factor(step, steps)
        if step == steps * recipe.epochs // 2:
            _freeze_statistics(module)
        told = cells[torch.randperm(len(cells), generator=draws)] if ROWS[config["row"]].shuffled else cells
        loss = nn.functional.cross_entropy(_scores(module, x, recipe), told)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(_finite(loss.item(), step, recipe.lr))
    return sum(losses[-steps:]) / steps


def _freeze_statistics(module: nn.Module) -> None:
    """From here on batch norm uses its running statistics, as it will in the test.

    Where a picture lies shows in small differences between pooled means. Networks trained to the end on the statistics
    of each batch told nearly all cells with those, and in some runs one in nine with the running ones.
    """
    for m in module.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            m.eval()


def _scores(module: nn.Module, x: Tensor, recipe: Recipe) -> Tensor:
    # Not channels last: PyTorch 2.15 crashes in the backward pass of a strided 1 x 1 convolution of 8 channels so.
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16-mixed"):
        return module(x).float()


def _batches(pictures: Tensor, recipe: Recipe, grid: int, draws: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Canvases and their cells, epoch by epoch; the last, smaller batch of an epoch is left out."""
    for _ in range(recipe.epochs):
        order = torch.randperm(len(pictures), generator=draws)
        cells = torch.randint(grid**2, (len(pictures),), generator=draws)
        for rows in order.split(recipe.batch_size)[: len(pictures) // recipe.batch_size]:
            yield paste(pictures[rows], cells[rows], grid), cells[rows]


def _finite(loss: float, step: int, lr: float) -> float:
    if loss - loss != 0:  # neither NaN nor infinite survives this
        raise TrainingDiverged(f"the loss is {loss} at step {step + 1} with lr={lr}; give a recipe with a lower lr.")
    return loss


@torch.no_grad()
def _test(module: nn.Module, pictures: Tensor, grid: int, recipe: Recipe) -> Tensor:
    """(N,), whether each picture's cell was told right; where each lies is the same for every network."""
    module.eval()
    cells = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(2_000_003)) % grid**2
    parts = zip(pictures.split(recipe.batch_size), cells.split(recipe.batch_size), strict=True)
    return torch.cat([_scores(module, paste(x, c, grid), recipe).argmax(1) == c for x, c in parts])
