"""How much *where* do features hold? Position read out of frozen features, site by site, beside its controls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from whatwhere.lab.options import AnyData, AnyNetwork, Measured, Selection
from whatwhere.lab.study import AnyPath, Study

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from whatwhere.hold.official import Official
    from whatwhere.hold.studies.readout_result import ReadoutResult

    Settings: TypeAlias = Official | None
    Targets: TypeAlias = str | Sequence[str] | Mapping[str, Any]
else:  # what a command line can give
    Settings = Any  # nothing
    Targets = tuple[str, ...]

TARGETS = ("H", "V", "G", "HS", "VS")
BLANKS = ("black", "white", "noise")


@dataclass(frozen=True)
class Readout(Measured, Study["ReadoutResult"]):
    """Read absolute position out of frozen features, site by site, beside controls (Islam et al., ICLR 2020).

    A read-out, one k x k convolution, predicts a map of position. The same is done for untrained networks, for other
    paddings, for shuffled positions and for the raw input. Every network is a cell.

    Attributes:
        data: hf/ID, a folder, known/what or digits, with or without labels; in Python also a `Data`.
        test_data: other pictures to test on, as in the paper.
        sites: levels (the last map of each resolution), cuts (every block), resnet (layer1 ... layer4), names, globs,
            or last 30%; rgb is the raw input alone.
        targets: maps to predict: H, V, G, HS, VS; in Python also maps of your own by name.
        target_range: of the named targets.
        kernels: k of the k x k read-outs.
        readouts: ridge (closed form), official (gradient descent, as published).
        readout_padding: zeros around the features in the read-out; themselves a source of position.
        layers: convolutions of the official read-out, 1 to 3.
        official: all settings of the official read-out, instead of layers.
        untrained: networks of the same architecture with fresh weights to measure as a control.
        paddings: zeros, reflect, replicate, circular, none, f-conv; the same weights under other paddings. If not
            given, circular, reflect and replicate, as far as the network can have them; [] for none.
        token_controls: of a transformer, also measure it with its position embedding at the mean over positions, and
            with the patches of each picture in a random order.
        blanks: pictures without content to test on: black, white, noise; [] for none.
        input_size: height and width of the pictures, instead of the network's own.
        pictures: at most this many to fit and to choose the penalty.
        test_pictures: at most this many to test on.
        size: height and width of the features that are read.
        seed: of the division of the pictures, the shuffled positions and the official read-out.
        batch_size: pictures in a forward pass.

    Examples:
        $ whatwhere hold readout --model timm/resnet18 --pretrained true --data photos --sites resnet --out hold
        $ whatwhere hold readout --model cifar/vgg11 --weights W.safetensors --data digits --targets H,G --untrained 2
    """

    kind: ClassVar[str] = "position"
    plan: ClassVar[str] = "whatwhere.hold.studies.readout_plan:ReadoutPlan"
    result: ClassVar[str] = "whatwhere.hold.studies.readout_result:ReadoutResult"

    test_data: AnyData | None = None
    sites: Selection = ("levels",)
    targets: Targets = TARGETS
    target_range: Literal["0..1", "-1..1"] = "0..1"
    kernels: tuple[int, ...] = (3,)
    readouts: tuple[str, ...] = ("ridge",)
    readout_padding: int = 0
    layers: int = 1
    official: Settings = None
    untrained: int = 3
    paddings: tuple[str, ...] | None = None
    token_controls: bool = True
    blanks: tuple[str, ...] = BLANKS
    input_size: int | None = None
    pictures: int = 500
    test_pictures: int = 200
    size: int = 28
    seed: int = 0
    batch_size: int = 32


def readout(
    model: AnyNetwork, data: AnyData, *, out: AnyPath | None = None, quiet: bool = False, **options: Any
) -> ReadoutResult:
    """How much absolute position the features of a network hold, site by site, beside the controls.

    >>> hold = ww.hold.readout(net, "photos/", untrained=2)
    >>> hold.plot(); print(hold.conclusion)

    Args:
        model: a network, or its name.
        data: pictures, or their name or folder; labels are not needed.
        out: folder for cells and the result; the same call resumes there. None keeps nothing.
        quiet: print no progress.
        **options: the other attributes of `Readout`.
    """
    return Readout(model, data, **options).run(out, quiet=quiet)
