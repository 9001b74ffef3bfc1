"""How much of the accuracy that a collapse costs does fine-tuning bring back?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from whatwhere.lab.options import AnyRecipe, Measured, Tuning
from whatwhere.lab.study import Study

if TYPE_CHECKING:
    from whatwhere.need.studies.recover_result import RecoverResult as RecoverResult


Freeze: TypeAlias = Literal["nothing", "prefix"]
Norms: TypeAlias = Literal["learn", "keep"]
Until: TypeAlias = Literal["end", "allowed"]
Counted: TypeAlias = Literal["accuracy", "top5", "agreement"]


@dataclass(frozen=True)
class Recover(Tuning, Measured, Study["RecoverResult"]):
    """Collapse a trained network (GAP+FC), fine-tune it, and see how much of the lost accuracy comes back.

    The control is the intact network, fine-tuned alike: the same recipe, the same order of the same pictures. Every
    fine-tuned network is kept as a folder in the folder's weights, which --model takes in every command. Sites and
    seeds may be added later in the same folder: the result is of all that is finished there. An interrupted training
    resumes from its last epoch.

    With --freeze prefix and --augment false each picture goes through what lies before the site once, and what lies
    behind it is trained on the values there: seconds instead of hours.

    Attributes:
        data: hf/ID, a folder, known/what, known/where, known/surroundings or digits; in Python also a `Data`. Its
            train split is fine-tuned on, its test split is measured.
        recipe: finetune (5 epochs), or one that networks are trained anew with: fan2020-cifar, fan2020-cifar-fast,
            fan2020-small-imagenet, fan2020-imagenet, wang2018-imagenet, fast, vit or demo; in Python also a `Recipe`.
        sites: where to collapse, each in turn: names such as layer4.0, or shares of the convolutions such as
            "last 30%", which begin at a residual block or at a convolution outside of them.
        seeds: of the order of the pictures and their augmentation; at least two for intervals that contain the noise
            of training.
        pictures: at most this many training pictures, balanced over the classes.
        limit: at most this many test pictures, likewise.
        freeze: prefix: what lies before the site stays bit for bit as it is, of the control as well.
        norms: keep: batch norms use the network's own statistics, which stay as they are, instead of those of each
            batch; better where there are few pictures. Their gains and shifts are learned all the same.
        distill: weight, from 0 to 1, of the divergence from the original network's softened scores; the labels' loss
            has the rest. With 1, training pictures need no labels.
        temperature: that softens the scores: they are divided by it.
        allowed: points of the score that a network may be below the intact one; the conclusion says whether it is shown
            to be within, by the end of the interval.
        until: end trains all epochs. allowed holds out a share of the training pictures and stops a collapsed network
            after the first epoch where the end of its interval on these is within what is allowed of the intact network
            as given. The control, which learns from the same pictures, is trained to the end.
        validation: the share that is held out.
        score: accuracy; top5; agreement, with the network as it was given, for which test pictures need no labels.

    Examples:
        $ whatwhere need recover --model timm/resnet18 --pretrained true --data FOLDER --sites layer4.0 --out recover
        $ whatwhere need recover --model cifar/vgg16 --weights w.safetensors --data digits --freeze prefix --seeds 0
    """

    kind: ClassVar[str] = "recover"
    plan: ClassVar[str] = "whatwhere.need.studies.recover_plan:RecoverPlan"
    result: ClassVar[str] = "whatwhere.need.studies.recover_result:RecoverResult"

    recipe: AnyRecipe = "finetune"
    sites: tuple[str, ...] = ("last 30%",)
    seeds: tuple[int, ...] = (0, 1, 2)
    pictures: int | None = None
    limit: int | None = None
    freeze: Freeze = "nothing"
    norms: Norms = "learn"
    distill: float = 0.0
    temperature: float = 2.0
    allowed: float = 2.0
    until: Until = "end"
    validation: float = 0.2
    score: Counted = "accuracy"
