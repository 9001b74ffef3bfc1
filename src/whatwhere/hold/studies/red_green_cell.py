"""One cell of the Red-Green study: train one small network on one seed's pictures, test it on both test sets.

Source: [kayhan2020] and the authors' published code, read for facts: no bias in the convolutions, Adadelta with weight
decay, batches of 200 in a fixed order, the epoch with the lowest validation loss, patience of 8 epochs.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from whatwhere.studies.position.red_green_data import Blocks, red_green_data

CHANNELS, STRIDES, KERNEL = (32, 32, 64, 64), (1, 2, 2, 2), 3
PADDINGS: dict[
    str, tuple[int, Literal["zeros", "reflect", "replicate", "circular"]]
] = {  # pixels on each side, and what they hold
    "none": (0, "zeros"),
    "zeros": (1, "zeros"),
    "circular": (1, "circular"),
    "f-conv": (KERNEL - 1, "zeros"),
    "reflect": (1, "reflect"),
    "replicate": (1, "replicate"),
}
OPTIMIZER: dict[str, Any] = {"lr": 1.0, "rho": 0.9, "eps": 1e-6, "weight_decay": 5e-5}  # of Adadelta
BATCH, PATIENCE = 200, 8


def red_green_net(padding: str, *, seed: int = 0) -> nn.Sequential:
    """Four 3 x 3 convolutions, a global maximum and a linear layer, from (N, 3, 32, 32) to (N, 2).

    Args:
        padding: a key of `PADDINGS`, the same for all four convolutions.
        seed: of the initial weights (PyTorch's own initialisation); the global random state is put back.
    """
    pixels, mode = PADDINGS[padding]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        layers: list[nn.Module] = []
        for before, after, stride in zip((3, *CHANNELS), CHANNELS, STRIDES, strict=False):
            layers += [
                nn.Conv2d(before, after, KERNEL, stride, pixels, padding_mode=mode, bias=False),
                nn.ReLU(inplace=True),
            ]
        net = nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(CHANNELS[-1], 2))
    # A fifth faster on CPUs, but not where PyTorch pads in a step of its own, which gives the layout up.
    return net.to(memory_format=torch.channels_last) if mode == "zeros" else net


def run_cell(config: Mapping[str, Any]) -> dict[str, Any]:
    """Train and test one network; pure: the same configuration gives the same numbers."""
    data = red_green_data(*config["pictures"], seed=config["seed"])
    net = red_green_net(config["padding"], seed=config["seed"])
    training = train(net, data.train, data.validation, config["epochs"])
    similar, dissimilar = hits(net, data.similar), hits(net, data.dissimilar)
    return {
        "n": len(similar), "similar": int(similar.sum()), "dissimilar": int(dissimilar.sum()),
        "similar_only": int((similar & ~dissimilar).sum()), "dissimilar_only": int((dissimilar & ~similar).sum()),
        "train_accuracy": float(hits(net, data.train).float().mean()), **training,
    }  # fmt: skip


@dataclass
class _Best:
    """The epoch with the lowest validation loss so far."""

    loss: float = math.inf
    epoch: int = 0
    state: Mapping[str, Tensor] | None = None

    def see(self, loss: float, epoch: int, net: nn.Module) -> None:
        if loss < self.loss:
            self.loss, self.epoch, self.state = loss, epoch, copy.deepcopy(net.state_dict())


def train(net: nn.Module, pictures: Blocks, validation: Blocks, epochs: int) -> dict[str, Any]:
    """Train in place, and go back to the weights of the best epoch on the validation pictures.

    Returns:
        Epochs run, and which was the best, from 1.
    """
    optimizer = torch.optim.Adadelta(net.parameters(), **OPTIMIZER)
    batches, held_out = _batches(pictures), _batches(validation)
    best, epoch = _Best(), 0
    while epoch < epochs and epoch - best.epoch <= PATIENCE:
        epoch += 1
        for images, labels in batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images), labels).backward()
            optimizer.step()
        best.see(_loss(net, held_out), epoch, net)
    if best.state is not None:
        net.load_state_dict(best.state)
    return {"epochs": epoch, "best_epoch": best.epoch, "validation_loss": best.loss if best.state else None}


def _batches(blocks: Blocks) -> list[tuple[Tensor, Tensor]]:
    return list(zip(blocks.pictures().split(BATCH), blocks.targets().split(BATCH), strict=True))


@torch.no_grad()
def _loss(net: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
    total = sum(float(nn.functional.cross_entropy(net(x), y, reduction="sum")) for x, y in batches)
    return total / sum(len(y) for _, y in batches)


@torch.no_grad()
def hits(net: nn.Module, blocks: Blocks) -> Tensor:
    """(N,), whether each picture is told right."""
    return torch.cat([net(x).argmax(1) == y for x, y in _batches(blocks)])
