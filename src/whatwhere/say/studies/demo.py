"""The demo: a network learns drawn streets, speaks in parts and materials, and names its planted failure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from whatwhere.data.drawn_scenes import drawn_streets
from whatwhere.data.scenes import Scenes
from whatwhere.data.street_objects import CONFUSED, DIFFERENCE
from whatwhere.errors import InputError
from whatwhere.files import read_json
from whatwhere.lab.progress import Meter, silence
from whatwhere.models.load import load_model
from whatwhere.models.weights import load_weights, save_weights
from whatwhere.network import Network
from whatwhere.say.studies.compare import SITE, Compare
from whatwhere.say.studies.compare_result import SayResult
from whatwhere.say.studies.explain import explain
from whatwhere.training.fit import fit
from whatwhere.training.recipes import SCENES

WIDTH = 0.5
CONCEPTS = {"named": ["material", "part"], "textures": True, "positions": True}
KINDS = ("ssb", "learned")
LEARNING = replace(SCENES, epochs=8, lr=2e-3, crop=(96, 128), scale=(1.0, 1.0))
WITHIN = 0.02  # that the bottleneck may cost


def demo(out: Path, *, quiet: bool = False) -> SayResult:
    """Train, put the bottleneck in, measure, explain.

    Args:
        out: folder of the page; the same call resumes there.
        quiet: print no progress.
    """
    scenes = drawn_streets()
    _check_folder(out)
    with silence(quiet):
        net = learned(scenes, out)
    study = Compare(net, scenes, sites=(SITE,), concepts=CONCEPTS, kinds=KINDS, epochs=8, lr=2e-3)
    result = study.run(out, quiet=quiet)
    explain(study, out)
    result.save(out)  # with a link to the explanation
    return result


def _check_folder(out: Path) -> None:
    """Refuse a folder of another study before anything is written."""
    seen = read_json(out / "study.json") if (out / "study.json").exists() else {"study": Compare.kind}
    if seen.get("study") != Compare.kind:
        raise InputError(f"out={str(out)!r} holds another study ({seen.get('study')}); choose another folder.")


def learned(scenes: Scenes, out: Path) -> Network:
    """A PSPNet trained on drawn streets; the weights are kept."""
    net = load_model("pspnet/resnet18", classes=len(scenes.classes), width=WIDTH)
    file = out / "segmenter.safetensors"
    if file.exists():
        load_weights(net.module, file)
    else:
        steps = LEARNING.epochs * (len(scenes.train) // LEARNING.batch_size)
        with Meter("training PSPNet on drawn streets", steps) as meter:
            fit(net, scenes.train, LEARNING, file=out / "segmenter.pt", on_step=lambda done, _: meter.update(done))
        save_weights(net.module, file)
    net.module.eval()
    return net


def verdict(result: SayResult) -> str:
    """Whether the demo found the planted failure at no cost."""
    ssb, first = result.row(SITE, "ssb"), next(iter(result.failures()), None)
    if ssb is None or ssb.change is None or first is None:
        return "NOT as expected: the bottleneck is missing, or never fails."
    reason = first["why"].split(";")[0]
    named = {first["true"], first["predicted"]} == set(CONFUSED) and DIFFERENCE in reason
    word = "As expected" if named and ssb.change.value >= -WITHIN else "NOT as expected"
    return (
        f"{word}: the bottleneck costs {-100 * ssb.change.value:.2f} points of mIoU (at most {100 * WITHIN:.0f}), and "
        f"the commonest failure is {first['true']} predicted as {first['predicted']}, for {reason}."
    )
