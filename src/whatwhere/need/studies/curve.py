"""What does a trained network lose without spatial information? Removed at test time, at every depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from whatwhere.lab.options import AnyData, AnyNetwork, AnyScore, Measured, Selection
from whatwhere.lab.study import AnyPath, Study

if TYPE_CHECKING:
    from whatwhere.need.studies.result import NeedResult

METHODS = ("per-channel", "mean", "gap_fc")


@dataclass(frozen=True)
class Curve(Measured, Study["NeedResult"]):
    """Remove spatial information from a trained network at test time, at every depth, and measure the loss.

    The network is not retrained. The computation before a cut is shared by all methods and draws at the cut; the
    numbers equal those of full forward passes under the same shuffles, draw by draw.

    The loss is of a score. Without labels a network is compared with itself as it is: any folder of pictures will do.
    Of scenes (pictures with label maps) it is mIoU, whose intervals draw pictures, or video segments, again. With boxes
    it is a detector's mAP; a detector cannot be collapsed, and `reach=1` removes at one layer alone.

    Attributes:
        data: hf/ID, a folder, known/what, known/where, known/surroundings, digits, drawn/streets or a folder of scenes,
            drawn/boxes or a folder with VOCdevkit or COCO's annotations; in Python also what `load_data` returns.
        score: accuracy, top5 (class labels); miou (label maps); r2, mae (numbers); map (COCO's), map50 (VOC's, the
            whole area), map50-2007 (11 recalls), presence (of classes, wherever their boxes are); without labels
            agreement with the intact network, kl from its class probabilities, feature, the cosine with its features; a
            function or a torchmetrics metric as package.module:name, in Python also as an object. If not given: miou
            for scenes, map with boxes, accuracy with class labels, agreement without, feature for a network without
            classes.
        methods: shuffle modes (per-channel, shared, all, channel, channel-per-position, block, rows, columns, fixed;
            per-channel-sample and shared-sample draw for each picture); mean, each map constant at its mean; merge-2,
            merge-4, means of neighbours; gap_fc, the collapsed network with summed kernels. Of transformers also
            prefix-mean, prefix-swap (class token and registers of other pictures), and at the input, once,
            embedding-zero, embedding-mean, embedding-permute.
        sites: where to cut; every k x k convolution or residual block if not given.
        reach: from removes from the cut to the end, 1 at the cut only, n at the cut and the n - 1 after it.
        repeats: draws of every shuffle.
        tolerance: give a cut only as many draws as keep its paired interval within this factor (0.01 is one per cent)
            of the width that all repeats would give; chunks of pictures then run one after the other.
        within: what the recommendation may cost, in the score's own unit; of a score in per cent 0.01 is one point.
        limit: at most this many test pictures, balanced over the classes.
        seed: of the draws.
        batch_size: pictures in a forward pass; they share each draw. If not given 128, of scenes 4, with boxes 16;
            pictures of several sizes need 1 there.

    Examples:
        $ whatwhere need curve --model timm/resnet18 --pretrained true --data FOLDER --repeats 5 --out curve
        $ whatwhere need curve --model timm/resnet18 --pretrained true --data PICTURES --score kl --within 0.1
    """

    kind: ClassVar[str] = "dependency at test time"
    plan: ClassVar[str] = "whatwhere.need.studies.curve_plan:CurvePlan"
    result: ClassVar[str] = "whatwhere.need.studies.result:NeedResult"

    methods: tuple[str, ...] = METHODS
    sites: Selection = None
    reach: Literal["from"] | int = "from"
    repeats: int = 10
    tolerance: float | None = None
    within: float | None = 0.01
    limit: int | None = None
    seed: int = 0
    batch_size: int | None = None
    score: AnyScore = None

    @property
    def _classes(self) -> tuple[str, ...]:
        return self.data_source.given.classes


def curve(
    model: AnyNetwork, data: AnyData, *, out: AnyPath | None = None, quiet: bool = False, **options: Any
) -> NeedResult:
    """Measure what a trained network loses when spatial information is removed at test time, at every depth.

    >>> found = ww.need.curve(net, data, repeats=5, out="curve")
    >>> print(found.conclusion)

    Args:
        model: a name, a module or a `Network`.
        data: a name, a folder, a `Data`, `Scenes` or `Boxes`; the test split is measured.
        out: folder for finished cells and the result; the same call resumes there.
        quiet: print no progress.
        **options: the other options of `Curve`.
    """
    return Curve(model, data, **options).run(out, quiet=quiet)
