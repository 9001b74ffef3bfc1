"""The paper's read-out: convolution, batch norm, sigmoid, trained by gradient descent (Islam et al. 2020)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from whatwhere.descent import NotFinite, descend
from whatwhere.errors import InputError, unknown
from whatwhere.hold.features import Group, joined
from whatwhere.hold.ridge import output_size
from whatwhere.hold.targets import Target, brought_to, stack

Head = Literal["bn-sigmoid", "linear"]


@dataclass(frozen=True)
class Official:
    """How the paper trains its read-out.

    Attributes:
        epochs: passes over the pictures.
        batch_size: pictures a step.
        lr: of SGD; multiplied by 0.1 after epoch 10 [code].
        momentum: of SGD.
        weight_decay: on every parameter.
        layers: convolutions, 1 to 3.
        head: `bn-sigmoid`, as the authors' code; `linear`, the convolution alone, as the paper's text.
        hidden: channels between the layers of a deeper read-out; None is as many as are read, as published [code].
            16 take far less time.
        upsample: compare the output with the target at the size of the pictures, as the authors' code does; otherwise
            at the size of the output.
    """

    epochs: int = 15
    batch_size: int = 32
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    layers: int = 1
    head: Head = "bn-sigmoid"
    hidden: int | None = None
    upsample: bool = True

    def __post_init__(self) -> None:
        """Refuse settings that the paper's read-outs do not have.

        Raises:
            InputError: naming the field and its choices.
        """
        if self.layers not in (1, 2, 3):
            raise InputError(f"layers={self.layers}: the paper's read-outs have 1, 2 or 3 convolutions.")
        if self.head not in ("bn-sigmoid", "linear"):
            raise unknown("head", str(self.head), ("bn-sigmoid", "linear"))
        if self.epochs < 1 or self.batch_size < 2:
            raise InputError(f"epochs={self.epochs}, batch_size={self.batch_size}: give at least 1 and 2.")
        if self.hidden is not None and self.hidden < 1:
            raise InputError(f"hidden={self.hidden}: give at least 1 channel, or None for as many as are read.")
        if not 0 < self.lr < float("inf"):
            raise InputError(f"lr={self.lr}: give a learning rate above 0, such as 0.1.")


class OfficialReadOut(nn.Module):
    """One read-out of a group for each target, side by side: their weights, and so their training, are independent.

    Args:
        group: what is read.
        targets: what is read out, T of them.
        kernel: k of the convolutions.
        padding: zeros around the features, of every convolution.
        size: height and width of the features.
        at: height and width at which it is compared with the targets in training, that of the pictures; None, or
            `upsample=False` in the settings, is that of its output.
        how: the settings.
        seed: of the initial weights.
    """

    def __init__(
        self,
        group: Group,
        targets: Sequence[Target],
        *,
        kernel: int = 3,
        padding: int = 0,
        size: int = 28,
        at: int | None = None,
        how: Official | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.how, self.group, self.kernel, self.padding = how or Official(), group, kernel, padding
        for _ in range(self.how.layers):
            size = output_size(size, kernel, padding)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.layers = self._layers(len(targets)).to(memory_format=torch.channels_last)
        self.at = (at if self.how.upsample else None) or size
        self.goals: Tensor
        self.register_buffer("goals", stack(targets, self.at), persistent=False)

    def _layers(self, targets: int) -> nn.Sequential:
        inner = self.how.hidden or self.group.channels
        widths = [self.group.channels, *[inner * targets] * (self.how.layers - 1), targets]
        layers: list[nn.Module] = []
        for i in range(self.how.layers):
            groups = 1 if i == 0 else targets  # all read the features; behind that each has channels of its own
            layers.append(nn.Conv2d(widths[i], widths[i + 1], self.kernel, padding=self.padding, groups=groups))
            if i < self.how.layers - 1:
                layers += [nn.BatchNorm2d(widths[i + 1]), nn.ReLU(inplace=True)]
        if self.how.head == "bn-sigmoid":
            layers += [nn.BatchNorm2d(targets), nn.Sigmoid()]
        return nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Features (N, C, size, size) to predictions (N, T, h, w)."""
        return self.layers(x)

    def predict(self, maps: Mapping[str, Tensor]) -> Tensor:
        """Maps by tap to predictions (N, T, h, w), in evaluation mode, without gradients."""
        self.eval()
        with torch.no_grad():
            return self(self._input(maps))

    def _input(self, maps: Mapping[str, Tensor]) -> Tensor:
        # Twice as fast in training on CPUs.
        return joined(maps, self.group.taps).float().contiguous(memory_format=torch.channels_last)

    def loss(self, maps: Mapping[str, Tensor]) -> Tensor:
        """Mean squared error at the size of the targets, summed over them: each is trained as if it were alone."""
        predicted = brought_to(self(self._input(maps)), self.at)
        wanted = self.goals.expand_as(predicted)
        return functional.mse_loss(predicted, wanted, reduction="none").mean((0, 2, 3)).sum()


Batches = Callable[[int], Iterable[Mapping[str, Tensor]]]


def train_readouts(
    readouts: Sequence[OfficialReadOut],
    batches: Batches,
    *,
    on_epoch: Callable[[], None] = lambda: None,
    on_losses: Callable[[Sequence[Mapping[str, float]]], None] = lambda history: None,
) -> None:
    """Train read-outs side by side on the same features, as the paper trains each alone.

    Args:
        readouts: all with the same settings; they are trained in place.
        batches: from an epoch's number to its batches of maps by tap, shuffled.
        on_epoch: called after every epoch.
        on_losses: called after every epoch with the mean losses of all so far, by read-out.

    Raises:
        InputError: if a loss is not finite.
    """
    how, parameters = readouts[0].how, [p for readout in readouts for p in readout.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=how.lr, momentum=how.momentum, weight_decay=how.weight_decay)
    history: list[dict[str, float]] = []
    for epoch in range(how.epochs):
        history.append(_epoch(readouts, batches(epoch), optimizer, how.lr * (0.1 if epoch >= 10 else 1.0)))
        on_losses(history)
        on_epoch()


def _epoch(
    readouts: Sequence[OfficialReadOut], batches: Iterable[Mapping[str, Tensor]], optimizer: Any, lr: float
) -> dict[str, float]:
    """Show every batch once; the mean loss of each read-out."""
    for readout in readouts:
        readout.train()
    try:
        losses = descend(
            batches,
            lambda maps: torch.stack([_gone_back(readout.loss(maps)) for readout in readouts]),
            optimizer,
            backward=lambda total: None,
            rate=lambda step: lr,
        )
    except NotFinite as error:
        name = readouts[error.which].group.name
        raise InputError(f"the official read-out of {name} diverged (loss {error.loss}); lower lr.") from error
    names = [f"loss {r.group.name} {r.kernel}x{r.kernel}" for r in readouts]
    return dict(zip(names, losses.mean(0).tolist(), strict=True)) if len(losses) else {}


def _gone_back(loss: Tensor) -> Tensor:
    """A loss whose gradients are computed: what one read-out keeps for them is let go before the next runs."""
    loss.backward()
    return loss.detach()
