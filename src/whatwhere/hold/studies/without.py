"""What is left of a network, and of position in it, when the directions that hold position are taken out?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from whatwhere.lab.options import AnyData, AnyNetwork, Measured
from whatwhere.lab.study import AnyPath, Study

if TYPE_CHECKING:
    from whatwhere.hold.studies.without_result import WithoutResult


@dataclass(frozen=True)
class Without(Measured, Study["WithoutResult"]):
    """Project position out of the features at a site, and measure what is left of position and of the task.

    A 1 x 1 read-out of position (closed form) is fitted, and the directions that it uses are projected out; what is
    left is read by one that is fitted anew, and more directions are taken, round by round (as INLP). Beside it stand as
    many random directions, those of a read-out of shuffled positions, and untrained networks with nothing taken out.
    All scores are on pictures that no read-out was fitted to.

    Attributes:
        site: whose output is projected.
        targets: what is read: H, V, G, HS, VS.
        rounds: of fitting and projecting, at most; none follow once SPC is not above that of shuffled positions.
        random: draws of random directions.
        untrained: networks of the same architecture with fresh weights, whose position is read as it is.
        pictures: at most this many to fit and to choose the penalty.
        test_pictures: at most this many to test on, both position and accuracy.
        size: height and width of the features that are read.
        seed: of the division of the pictures, and of all draws.
        batch_size: pictures in a forward pass.

    Examples:
        $ whatwhere hold without --model timm/resnet18 --pretrained true --data FOLDER --site layer4 --out without
        $ whatwhere hold without --model cifar/vgg11 --weights W.safetensors --data digits --site features.20 --rounds 4
    """

    kind: ClassVar[str] = "position taken out"
    plan: ClassVar[str] = "whatwhere.hold.studies.without_plan:WithoutPlan"
    result: ClassVar[str] = "whatwhere.hold.studies.without_result:WithoutResult"

    site: str = ""
    targets: tuple[str, ...] = ("H", "V")
    rounds: int = 8
    random: int = 3
    untrained: int = 2
    pictures: int = 300
    test_pictures: int = 200
    size: int = 28
    seed: int = 0
    batch_size: int = 32


def without(
    model: AnyNetwork, data: AnyData, site: str, *, out: AnyPath | None = None, quiet: bool = False, **options: Any
) -> WithoutResult:
    """What is left of position and of the task when position is projected out of the features at a site.

    >>> found = ww.hold.without(net, data, "layer4", rounds=4)
    >>> print(found.conclusion)

    Args:
        model: a network, or its name.
        data: pictures with labels, or their name or folder.
        site: whose output is projected.
        out: folder for cells and the result; the same call resumes there. None keeps nothing.
        quiet: print no progress.
        **options: the other attributes of `Without`.
    """
    return Without(model, data, site=site, **options).run(out, quiet=quiet)
