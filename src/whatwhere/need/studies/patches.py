"""What does a trained network lose when the picture itself is cut into patches that change places?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from whatwhere.lab.options import AnyData, AnyNetwork, AnyScore, Measured
from whatwhere.lab.study import AnyPath, Study

if TYPE_CHECKING:
    from whatwhere.need.studies.patches_result import PatchesResult


@dataclass(frozen=True)
class Patches(Measured, Study["PatchesResult"]):
    """Cut the pictures into g x g patches, put these in a random order, and measure what a trained network loses.

    The input's side of the curve: how local is what the network recognises? Patches stay whole, alike in all channels.
    Their borders are edges that no picture has, and part of the loss. The network is not retrained.

    Attributes:
        score: accuracy, top5 (class labels); agreement with the intact network, kl from its scores, feature, the cosine
            with its features (no labels). If not given: accuracy with class labels, agreement without, feature for a
            network without classes.
        grids: patches along each side of the picture, which each must divide.
        scope: sample, an order for each picture; batch, one that the pictures of a batch share.
        repeats: draws of every grid.
        within: what an answer may cost, in the score's own unit; of a score in per cent 0.01 is one point.
        limit: at most this many test pictures, balanced over the classes.
        seed: of the draws.
        batch_size: pictures in a forward pass.

    Examples:
        $ whatwhere need patches --model timm/resnet18 --pretrained true --data FOLDER --out patches
        $ whatwhere need patches --model cifar/vgg16 --weights W.safetensors --data hf/uoft-cs/cifar100 --grids 2,4,8
    """

    kind: ClassVar[str] = "patches of the input"
    plan: ClassVar[str] = "whatwhere.need.studies.patches_plan:PatchesPlan"
    result: ClassVar[str] = "whatwhere.need.studies.patches_result:PatchesResult"

    grids: tuple[int, ...] = (2, 4, 8, 16)
    scope: Literal["sample", "batch"] = "sample"
    repeats: int = 5
    within: float = 0.01
    limit: int | None = None
    seed: int = 0
    batch_size: int = 128
    score: AnyScore = None


def patches(
    model: AnyNetwork, data: AnyData, *, out: AnyPath | None = None, quiet: bool = False, **options: Any
) -> PatchesResult:
    """What a trained network loses when the patches of its pictures change places.

    >>> found = ww.need.patches(net, data, grids=(2, 4, 8), out="patches")
    >>> print(found.conclusion)

    Args:
        model: a name, a module or a `Network`.
        data: a name, a folder or a `Data`; the test split is measured.
        out: folder for finished cells and the result; the same call resumes there.
        quiet: print no progress.
        **options: the other options of `Patches`.
    """
    return Patches(model, data, **options).run(out, quiet=quiet)
