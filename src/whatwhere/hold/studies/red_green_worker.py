"""The worker of the Red-Green test: train a small network on one seed's pictures, test it on both test sets.

Source: [kayhan2020] and the authors' published code, read for facts: no bias in the convolutions, Adadelta with weight
decay, batches of 200 in a fixed order, the epoch with the lowest validation loss, patience of 8 epochs. A
network has one padding throughout, as theirs.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from whatwhere.descent import NotFinite, descend
from whatwhere.errors import TrainingDiverged
from whatwhere.fingerprints import fingerprint
from whatwhere.hold.studies.red_green_data import Blocks, red_green_data
from whatwhere.lab.cells import Worker
from whatwhere.lab.sources import place
from whatwhere.network import Network
from whatwhere.training.tracking import logged

CHANNELS, STRIDES, KERNEL = (32, 32, 64, 64), (1, 2, 2, 2), 3
Fill = Literal["zeros", "reflect", "replicate", "circular"]
PADDINGS: dict[str, tuple[int, Fill]] = {  # pixels on each side, and what they are filled with
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


@dataclass(frozen=True)
class RedGreenWorker(Worker):
    """Trains and tests one network.

    Attributes:
        device: to train on.
    """

    device: str = "auto"

    def __call__(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Run one cell."""
        data = red_green_data(*config["pictures"], seed=config["seed"])
        net = place(Network(red_green_net(config["padding"], seed=config["seed"])), self.device).module
        training = train(net, data.train, data.validation, config["epochs"])
        similar, dissimilar = hits(net, data.similar), hits(net, data.dissimilar)
        return {
            "n": len(similar),
            "similar": int(similar.sum()),
            "dissimilar": int(dissimilar.sum()),
            "similar_only": int((similar & ~dissimilar).sum()),
            "dissimilar_only": int((dissimilar & ~similar).sum()),
            "train_accuracy": float(hits(net, data.train).float().mean()),
            "weights": fingerprint(net),
            **training,
        }


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
    batches, held_out = _batches(net, pictures), _batches(net, validation)
    best, history = _Best(), list[dict[str, float]]()
    with logged() as log:
        log.open()
        while len(history) < epochs and len(history) - best.epoch <= PATIENCE:
            loss = _epoch(net, batches, optimizer, len(history) + 1)
            history.append({"loss": loss, "validation_loss": _loss(net, held_out)})
            best.see(history[-1]["validation_loss"], len(history), net)
            log(history)
    if best.state is not None:
        net.load_state_dict(best.state)
    return {"epochs": len(history), "best_epoch": best.epoch, "validation_loss": best.loss if best.state else None}


def _epoch(
    net: nn.Module, batches: list[tuple[Tensor, Tensor]], optimizer: torch.optim.Optimizer, number: int
) -> float:
    """Show every batch once; the mean loss."""
    try:
        losses = descend(batches, lambda batch: nn.functional.cross_entropy(net(batch[0]), batch[1]), optimizer)
    except NotFinite as error:
        raise TrainingDiverged(f"{error} of epoch {number}, with the published settings; give another seed.") from error
    return float(losses.mean()) if len(losses) else 0.0


def _batches(net: nn.Module, blocks: Blocks) -> list[tuple[Tensor, Tensor]]:
    device = next(net.parameters()).device
    pictures, targets = blocks.pictures().to(device), blocks.targets().to(device)
    return list(zip(pictures.split(BATCH), targets.split(BATCH), strict=True))


@torch.no_grad()
def _loss(net: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
    total = sum(float(nn.functional.cross_entropy(net(x), y, reduction="sum")) for x, y in batches)
    return total / sum(len(y) for _, y in batches)


@torch.no_grad()
def hits(net: nn.Module, blocks: Blocks) -> Tensor:
    """(N,), whether the class of each picture is predicted correctly."""
    return torch.cat([net(x).argmax(1) == y for x, y in _batches(net, blocks)])
