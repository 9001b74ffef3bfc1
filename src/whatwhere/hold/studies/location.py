"""Location behind global average pooling: can a network predict where a picture lies once positions are averaged?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from whatwhere.lab.options import AnyData
from whatwhere.lab.study import Study

if TYPE_CHECKING:
    from whatwhere.hold.studies.location_result import LocationResult  # noqa: F401
    from whatwhere.lab.sources import GivenData


@dataclass(frozen=True)
class Location(Study["LocationResult"]):
    """Train networks to predict in which square of a canvas a picture lies, from globally averaged features.

    After Islam et al., ICCV 2021. Every network is a cell; rows and seeds may be added later in the same folder.

    Attributes:
        data: pictures of one size: hf/ID, a folder, known/what or digits; in Python also a `Data`. Labels do not
            matter.
        grid: squares in a row and in a column of the canvas, at least 2; chance is 1 / grid².
        model: a network by name that ends in a global average pool and takes pictures of any size.
        width: width factor of cifar/ networks.
        rows: zeros, circular, permute (zeros, pooled channels permuted), shuffled (the control), reflect, replicate.
        seeds: of weights, order and places; at least two for intervals that contain the noise of training.
        pictures: at most this many to train on, of the training split.
        test_pictures: at most this many to test on, of the test split.
        epochs: passes; each puts every picture into a new square.
        batch_size: pictures in a step.
        lr: peak learning rate of AdamW's one cycle.

    Examples:
        $ whatwhere hold location --data hf/uoft-cs/cifar100 --seeds 0,1,2 --workers 2 --out location
        $ whatwhere hold location --data digits --grid 2 --rows zeros,circular,shuffled --epochs 2 --out location
    """

    kind: ClassVar[str] = "location"
    plan: ClassVar[str] = "whatwhere.hold.studies.location_plan:LocationPlan"
    result: ClassVar[str] = "whatwhere.hold.studies.location_result:LocationResult"

    data: AnyData
    grid: int = 3
    model: str = "cifar/resnet20"
    width: float = 0.25
    rows: tuple[str, ...] = ("zeros", "circular", "permute", "shuffled")
    seeds: tuple[int, ...] = (0,)
    pictures: int = 1024
    test_pictures: int = 1000
    epochs: int = 6
    batch_size: int = 32
    lr: float = 3e-3

    @cached_property
    def data_source(self) -> GivenData:
        """Where the pictures are."""
        from whatwhere.lab.sources import GivenData

        return GivenData.of(self.data)
