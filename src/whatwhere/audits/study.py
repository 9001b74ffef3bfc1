"""How much *where* is in this network? All that can be asked of it in some minutes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from whatwhere.lab.options import AnyData, AnyNetwork, AnyScore, Measured
from whatwhere.lab.study import AnyPath, Study

if TYPE_CHECKING:
    from whatwhere.audits.result import AuditResult


@dataclass(frozen=True)
class Audit(Measured, Study["AuditResult"]):
    """Ask a trained network all four questions in some minutes, and write one page.

    What it needs of *where* (shuffled at its depths, and in the picture itself), what it holds (position read out of
    its features, beside untrained networks and another padding), how far its layers see, what it could use (where gates
    would go, and what they cost), whether a smaller one would do, and what it gets wrong. Nothing is trained, unless
    `train` says so: how a segmentation network can be made to say it in concepts is a command to run. First of all the
    tool answers questions whose answers are known. Pictures, draws and sites are chosen to fit the time; what was left
    out is listed with its reason, and every interval says how sure the rest is.

    Attributes:
        data: hf/ID, a folder, known/what, known/where, digits, drawn/streets or a folder of scenes, drawn/boxes or a
            folder with VOCdevkit or COCO's annotations; in Python also what `load_data` returns.
        score: as `need curve` takes it; if not given: miou for scenes, map with boxes, accuracy with class labels,
            agreement with the intact network without, feature for a network without classes.
        minutes: that it may take on this machine; the most telling comes first.
        without: parts to leave out, of check, need, patches, hold, fields, use, say, failures.
        within: what the recommendation may cost, in the score's own unit; of a score in per cent 0.01 is one point.
        seed: of every draw.
        train: also train what takes training, beside the minutes: the network anew with each gate and two seeds, and
            behind one site of a segmentation network a bottleneck of concepts; on the train split.
        epochs: passes of each of these trainings; their own recipes' if not given.

    Examples:
        $ whatwhere audit --model timm/resnet18 --pretrained true --data FOLDER --minutes 5 --out audit
        $ whatwhere audit --model cifar/vgg11 --weights W.safetensors --data digits --without hold --train true
    """

    kind: ClassVar[str] = "audit"
    plan: ClassVar[str] = "whatwhere.audits.plan:AuditPlan"
    result: ClassVar[str] = "whatwhere.audits.result:AuditResult"
    usual_out: ClassVar[str] = "audit"

    score: AnyScore = None
    minutes: float = 5.0
    without: tuple[str, ...] = ()
    within: float = 0.01
    seed: int = 0
    train: bool = False
    epochs: int | None = None

    @property
    def named(self) -> bool:
        """Whether a command could be given the network and the pictures."""
        score = self.score is None or isinstance(self.score, str)
        return score and isinstance(self.model, str) and isinstance(self.data, str | os.PathLike)

    @property
    def _classes(self) -> tuple[str, ...]:
        return self.data_source.given.classes


def audit(
    model: AnyNetwork, data: AnyData, *, out: AnyPath | None = None, quiet: bool = False, **options: Any
) -> AuditResult:
    """Ask a trained network how much *where* it needs, holds, could use and say.

    >>> page = ww.audit(net, data, minutes=5, out="audit")
    >>> print(page.conclusion)

    Args:
        model: a name, a module or a `Network`; never changed.
        data: a name, a folder, a `Data`, `Scenes` or `Boxes`; the test split is measured.
        out: folder for finished parts and the page; the same call resumes there.
        quiet: print no progress.
        **options: the other options of `Audit`.
    """
    return Audit(model, data, **options).run(out, quiet=quiet)
