"""What padding adds to the features of a network and of its controls, measured without any read-out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from whatwhere.lab.options import AnyData, AnyNetwork, Measured, Selection
from whatwhere.lab.study import AnyPath, Study

if TYPE_CHECKING:
    from whatwhere.hold.studies.pattern_result import PatternResult


@dataclass(frozen=True)
class Pattern(Measured, Study["PatternResult"]):
    """Measure what padding adds to the features of a network, of an untrained one, and under other paddings.

    The network runs on a cut-out, which it pads, and on the larger picture, whose true surroundings are where the
    padding was; the mean difference is the pattern. Every network is a cell.

    Attributes:
        data: hf/ID, a folder, known/what or digits, with or without labels; in Python also a `Data`. Pictures smaller
            than the cut-out with its margin are enlarged.
        input_size: height and width of the cut-out, instead of the network's own.
        margin: pixels of true surroundings on each side; with less than half the receptive field of the deepest site
            the result is a lower bound.
        sites: every k x k convolution if not given; levels (the last map of each resolution), names, globs or last 30%.
        untrained: 1 measures the same architecture with fresh weights as well, 0 does not.
        paddings: zeros, reflect, replicate, circular, none, f-conv; the same weights under other paddings, as far as
            the network can have them; [] for none.
        pictures: at most this many.
        batch_size: pictures in a forward pass.

    Examples:
        $ whatwhere hold pattern --model timm/resnet18 --pretrained true --data photos --margin 64 --out pattern
        $ whatwhere hold pattern --model cifar/vgg11 --weights W.safetensors --data digits --margin 16 --sites levels
    """

    kind: ClassVar[str] = "padding pattern"
    plan: ClassVar[str] = "whatwhere.hold.studies.pattern_plan:PatternPlan"
    result: ClassVar[str] = "whatwhere.hold.studies.pattern_result:PatternResult"

    input_size: int | None = None
    margin: int = 32
    sites: Selection = None
    untrained: int = 1
    paddings: tuple[str, ...] = ("circular", "reflect", "replicate")
    pictures: int = 200
    batch_size: int = 16


def pattern(
    model: AnyNetwork, data: AnyData, *, out: AnyPath | None = None, quiet: bool = False, **options: Any
) -> PatternResult:
    """What padding adds to the features of a network, of an untrained one, and under other paddings.

    >>> found = ww.hold.pattern(net, "photos/", margin=64)
    >>> found.plot(); print(found.conclusion)

    Args:
        model: a network, or its name.
        data: pictures, or their name or folder; labels are not needed.
        out: folder for cells and the result; the same call resumes there. None keeps nothing.
        quiet: print no progress.
        **options: the other attributes of `Pattern`.
    """
    return Pattern(model, data, **options).run(out, quiet=quiet)
