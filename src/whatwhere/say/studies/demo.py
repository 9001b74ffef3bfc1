"""The demo: a network learns drawn streets, speaks in parts and materials, and names its planted failure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from whatwhere.data.drawn_scenes import drawn_streets
from whatwhere.data.street_objects import CONFUSED, DIFFERENCE
from whatwhere.models.load import load_model, load_weights, save_weights
from whatwhere.runs.progress import Meter
from whatwhere.studies.bottleneck.explain import explain
from whatwhere.studies.bottleneck.result import BottleneckResult
from whatwhere.studies.bottleneck.study import TUNING, bottleneck_study, prepared
from whatwhere.training.fit import fit
from whatwhere.training.recipes import SCENES

SITE, WIDTH = "backbone.layer4", 0.5
CONCEPTS = {"named": ["material", "part"], "textures": True, "positions": True}
KINDS = ("ssb", "learned")
LEARNING = replace(SCENES, epochs=8, lr=2e-3, crop=(96, 128), scale=(1.0, 1.0))
SPEAKING = replace(TUNING, epochs=8, lr=2e-3)
WITHIN = 0.02  # that the bottleneck may cost


def demo(out: Path, *, quiet: bool = False) -> Path:
    """Train, put the bottleneck in, measure, explain.

    Args:
        out: folder; run again to go on.
        quiet: print no progress.

    Returns:
        The page.
    """
    scenes = drawn_streets()
    net = load_model("pspnet/resnet18", classes=len(scenes.classes), width=WIDTH)
    net.input_size = (3, *scenes.test[0][0].shape[1:])
    file = out / "segmenter.safetensors"
    if file.exists():
        load_weights(net.module, file)
    else:
        steps = LEARNING.epochs * (len(scenes.train) // LEARNING.batch_size)
        with Meter("training PSPNet on drawn streets", steps) as meter:
            fit(net, scenes.train, LEARNING, file=out / "segmenter.pt", on_step=lambda done, _: meter.update(done))
        save_weights(net.module, file)
    net.module.eval()
    result = bottleneck_study(
        net, scenes, sites=(SITE,), out=out, concepts=CONCEPTS, kinds=KINDS, recipe=SPEAKING, quiet=quiet
    )
    explain(prepared(net, scenes, out, concepts=CONCEPTS, recipe=SPEAKING), SITE, out / "explain")
    print(verdict(result))
    return result.save(out)


def verdict(result: BottleneckResult) -> str:
    """Whether the demo came out as it must."""
    ssb, first = result.row(SITE, "ssb"), next(iter(result.failures()), None)
    if ssb is None or ssb.change is None or first is None:
        return "NOT as it must be: there is no bottleneck, or it never fails."
    reason = first["why"].split(";")[0]
    named = {first["true"], first["said"]} == set(CONFUSED) and DIFFERENCE in reason
    word = "As it must be" if named and ssb.change.value >= -WITHIN else "NOT as it must be"
    return (
        f"{word}: the bottleneck costs {-100 * ssb.change.value:.2f} points of mIoU (at most {100 * WITHIN:.0f}), and "
        f"the commonest failure is {first['true']} said to be {first['said']}, for {reason}."
    )
