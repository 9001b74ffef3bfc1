"""The tool asked what is known: networks and maps written by hand, whose answers follow from how they are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from whatwhere.data import Data, Split
from whatwhere.data.sources import Memory
from whatwhere.hold import Readout
from whatwhere.need.studies.curve import Curve
from whatwhere.network import Network, Preprocessing

SIZE, PICTURES = 12, 48  # pixels; pictures of each task
PLAIN = Preprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), source="none")


@dataclass(frozen=True)
class Known:
    """A question whose answer is known.

    Attributes:
        question: in words.
        expected: the answer.
        found: by the tool.
        right: whether they agree.
    """

    question: str
    expected: str
    found: str
    right: bool


def known_answers() -> list[Known]:
    """Ask all of them; some seconds."""
    return [ask() for ask in QUESTIONS]


def _brighter() -> Known:
    """Two classes, bright and dark pictures, told apart by their mean: no position is needed."""
    draws = torch.Generator().manual_seed(0)
    labels = torch.arange(PICTURES) % 2
    pictures = torch.randint(0, 100, (PICTURES, SIZE, SIZE, 3), generator=draws) + 120 * labels[:, None, None, None]
    lost = _lost_by_shuffling(_net(mean_of="picture"), pictures, labels)
    return Known("Which picture is brighter? Shuffled", "loses 0 points", f"loses {lost:.0f} points", lost == 0)


def _upper() -> Known:
    """Two classes, by which half is brighter: only position tells them apart."""
    draws = torch.Generator().manual_seed(0)
    labels = torch.arange(PICTURES) % 2
    pictures = torch.randint(0, 100, (PICTURES, SIZE, SIZE, 3), generator=draws)
    half = SIZE // 2
    pictures[labels == 1, :half] += 150
    pictures[labels == 0, half:] += 150
    lost = _lost_by_shuffling(_net(mean_of="upper half"), pictures, labels)
    right = 25 <= lost <= 75  # half of the pictures are right by chance
    return Known("Which half is brighter? Shuffled", "loses about 50 points", f"loses {lost:.0f} points", right)


def _ramp() -> Known:
    """A channel that is the column itself: position is read perfectly."""
    spc = _read(_Columns())
    return Known("A map that holds its columns: position read out", "SPC 1", f"SPC {spc:.2f}", spc > 0.99)


def _noise() -> Known:
    """Noise alike at all places, under a network that sees one pixel: there is no position to read."""
    spc = _read(nn.Conv2d(3, 4, 1))
    return Known("Noise, seen a pixel at a time: position read out", "SPC 0", f"SPC {spc:.2f}", abs(spc) < 0.2)


QUESTIONS: tuple[Callable[[], Known], ...] = (_brighter, _upper, _ramp, _noise)


class _Half(nn.Module):
    """Scores of two classes: the mean brightness of some rows, against a threshold."""

    def __init__(self, rows: int, threshold: float) -> None:
        super().__init__()
        self.see = nn.Conv2d(3, 1, 3, padding=1, bias=False)
        nn.init.zeros_(self.see.weight)
        self.see.weight.data[0, :, 1, 1] = 1 / 3
        self.rows, self.threshold = rows, threshold

    def forward(self, x: Tensor) -> Tensor:
        bright = self.see(x)[:, :, : self.rows].mean((1, 2, 3)) - self.threshold
        return torch.stack([-bright, bright], 1)


class _Columns(nn.Module):
    """A map that is its columns, whatever the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.see = nn.Conv2d(3, 1, 1)
        self.register_buffer("columns", torch.linspace(0, 1, SIZE).expand(1, 1, SIZE, SIZE).contiguous())

    def forward(self, x: Tensor) -> Tensor:
        return self.see(x) * 0 + self.columns


def _net(mean_of: str) -> Network:
    rows = SIZE if mean_of == "picture" else SIZE // 2
    return Network(_Half(rows, 110 / 255 if rows == SIZE else 125 / 255), PLAIN, mean_of, (3, SIZE, SIZE))


def _lost_by_shuffling(net: Network, pictures: Tensor, labels: Tensor) -> float:
    split = Split("test", Memory(pictures.permute(0, 3, 1, 2).to(torch.uint8)), labels, ["a", "b"])
    options: dict[str, Any] = {"methods": ("per-channel-sample",), "sites": ("see",), "repeats": 2, "within": None}
    found = Curve(net, Data("known", {"test": split}), **options).run(quiet=True)
    (point,) = found.points
    return 100 * point.drop.mean if point.drop else float("nan")


def _read(layer: nn.Module) -> float:
    draws = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    pictures = torch.randint(0, 255, (PICTURES, 3, SIZE, SIZE), generator=draws, dtype=torch.uint8)
    split = Split("test", Memory(pictures), torch.full((PICTURES,), -1))
    options: dict[str, Any] = {"sites": "0", "targets": ("H",), "kernels": (1,), "untrained": 0, "size": SIZE}
    quick: dict[str, Any] = {"paddings": (), "blanks": (), "pictures": 32, "test_pictures": 16}
    net = Network(module, PLAIN, "known", (3, SIZE, SIZE))
    found = Readout(net, Data("known", {"test": split}), **options, **quick).run(quiet=True)
    return found.of(site="0", inputs="pictures")[0].spc.mean
