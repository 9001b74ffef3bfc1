"""The worker of the study that takes position out: a cell is one kind of directions, or an untrained network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from whatwhere.hold.studies.erasing import Erasing, Step
from whatwhere.hold.studies.pictures import Pictures, pictures_of
from whatwhere.hold.studies.variants import placed
from whatwhere.hold.targets import targets_of
from whatwhere.lab.once import PreparedOnce
from whatwhere.lab.packed import pack, pack_scores, unpack, unpack_scores
from whatwhere.lab.sources import GivenData, GivenNetwork
from whatwhere.network import Network
from whatwhere.redraw import untrained

POSITION, SHUFFLED, RANDOM, UNTRAINED = "position", "shuffled positions", "random", "untrained"


@dataclass(frozen=True)
class WithoutWorker(PreparedOnce):
    """Measures with some directions taken out.

    Attributes:
        network: the given one.
        data: the pictures.
        site: whose output is projected.
        targets: what is read.
        rounds: at most.
        most: pictures to fit, and to test.
        size: of the features.
        seed: of all draws.
        batch: pictures in a forward pass.
        device: to run the network on.
    """

    network: GivenNetwork
    data: GivenData
    site: str
    targets: tuple[str, ...]
    rounds: int
    most: tuple[int, int]
    size: int
    seed: int
    batch: int
    device: str = "auto"

    @cached_property
    def pictures(self) -> Pictures:
        """To fit, to choose the penalty and to test."""
        return pictures_of(self.data.data, None, *self.most, self.seed)

    @cached_property
    def given(self) -> Erasing:
        """Of the given network; its features serve every cell of a process."""
        return self._erasing(self.network.net)

    def _erasing(self, net: Network) -> Erasing:
        return Erasing(net, self.pictures, self.site, targets_of(self.targets), self.size, self.seed, self.batch)

    def __call__(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Run one cell."""
        removed, draw = config["removed"], config.get("draw", 0)
        net = untrained(self.network.net, draw) if removed == UNTRAINED else self.network.net
        with placed(net, self.device):
            return {"steps": [plain_step(s) for s in self._steps(net, removed, config.get("rank", 0), draw)]}

    def _steps(self, net: Network, removed: str, rank: int, draw: int) -> list[Step]:
        if removed == UNTRAINED:
            fresh = self._erasing(net)
            return [fresh.measured(fresh.nothing)]
        if removed == POSITION:
            return [step for _, step in self.given.rounds(self.rounds)]
        made = self.given.shuffled_directions(rank) if removed == SHUFFLED else self.given.random_directions(rank, draw)
        return [self.given.measured(made)]


def plain_step(s: Step) -> dict[str, Any]:
    """A step as a cell keeps it."""
    return {
        "rank": s.rank,
        "variance": s.variance,
        "spc": {t: pack_scores(v) for t, v in s.spc.items()},
        "shuffled": {t: pack_scores(v) for t, v in s.shuffled.items()},
        "right": None if s.right is None else pack(s.right.astype(np.uint8)),
    }


def step_of(plain: Mapping[str, Any]) -> Step:
    """The same back."""
    read = {name: {t: unpack_scores(v) for t, v in plain[name].items()} for name in ("spc", "shuffled")}
    right = None if plain["right"] is None else unpack(plain["right"]).astype(bool)
    return Step(plain["rank"], plain["variance"], read["spc"], read["shuffled"], right)
