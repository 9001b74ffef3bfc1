"""The worker of the read-out: measure the network of a cell."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from whatwhere.hold.studies.measure import measure
from whatwhere.hold.studies.pictures import pictures_of
from whatwhere.hold.studies.reading import Reading
from whatwhere.hold.studies.variants import GIVEN, Variant, placed, sized
from whatwhere.lab.once import PreparedOnce
from whatwhere.lab.progress import Meter
from whatwhere.lab.sources import GivenData, GivenNetwork
from whatwhere.network import Network


@dataclass(frozen=True)
class ReadoutWorker(PreparedOnce):
    """Measures one network.

    Attributes:
        network: the given one.
        data: pictures to fit on.
        test_data: other pictures to test on, if any.
        side: height and width of the pictures; None is the network's own.
        most: pictures to fit, and to test.
        how: `Reading.describe`, as JSON.
        device: to run the network on.
    """

    network: GivenNetwork
    data: GivenData
    test_data: GivenData | None
    side: int | None
    most: tuple[int, int]
    how: str
    device: str = "auto"

    @cached_property
    def net(self) -> Network:
        """The given network."""
        return sized(self.network.net, self.side)

    @cached_property
    def reading(self) -> Reading:
        """What is read out."""
        how = json.loads(self.how)
        test = self.test_data.data if self.test_data else None
        return Reading.of(pictures_of(self.data.data, test, *self.most, how["seed"]), how)

    def __call__(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Run one cell."""
        variant, reading = Variant(**config), self.reading
        shape = reading.shape(self.net)
        net = variant.build(self.net, shape)
        title, control = f"position in {variant.title}", variant.kind == GIVEN
        acting = variant.acting(net, shape)
        with placed(net, self.device), acting, Meter(title, _passes(reading)) as meter:
            found: Mapping[str, Any] = measure(net, reading, control=control, on_batch=meter.advance)
        return found


def _passes(reading: Reading) -> int:
    """Pictures that go through the network while read-outs are fitted."""
    passes = sum({"ridge": 1, "official": reading.official.epochs}[r] for r in reading.readouts)
    return passes * (len(reading.pictures.fit) + len(reading.pictures.held_out))
