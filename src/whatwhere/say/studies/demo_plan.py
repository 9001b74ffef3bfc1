"""The demo's cells: a segmentation network that is trained, then its bottleneck, a study in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from whatwhere.data.load_scenes import DRAWN
from whatwhere.data.scenes import Scenes
from whatwhere.errors import InputError
from whatwhere.fingerprints import fingerprint
from whatwhere.lab.cells import Cell
from whatwhere.lab.progress import Meter
from whatwhere.lab.sources import GivenData
from whatwhere.lab.study import Finished, Plan, Run, Worker
from whatwhere.models.load import load_model
from whatwhere.models.weights import save_weights
from whatwhere.say.studies.compare import SITE, Compare
from whatwhere.say.studies.compare_result import SayResult
from whatwhere.say.studies.demo import Demo
from whatwhere.say.studies.demo_result import FOLDER, DemoResult
from whatwhere.say.studies.explain import explain
from whatwhere.training.fit import fit
from whatwhere.training.recipes import SCENES, SceneRecipe

MODEL, WIDTH = "pspnet/resnet18", 0.5
LEARNING = replace(SCENES, epochs=8, lr=2e-3, crop=(96, 128), scale=(1.0, 1.0))
COMPARED = {
    "sites": (SITE,),
    "concepts": {"named": ["material", "part"], "textures": True, "positions": True},
    "kinds": ("ssb", "learned", "tuned"),
    "epochs": 8,
    "lr": 2e-3,
}
LEARN, COMPARE = "learn", "compare"


class DemoPlan(Plan[Demo, DemoResult]):
    """The first cell trains the network; the second one runs the comparison and writes its explanations."""

    keeps_weights: ClassVar[bool] = True

    def shared(self) -> Mapping[str, Any]:
        """The network, its recipe, the scenes and the comparison's options."""
        network = {"model": MODEL, "width": WIDTH, "recipe": LEARNING.to_dict(), "compared": COMPARED}
        return {**network, "data": GivenData(DRAWN).scenes.describe()["fingerprints"]}

    @property
    def learning(self) -> Cell:
        """The cell that trains the network."""
        return Cell({"do": LEARN, "recipe": LEARNING.to_dict()}, "network")

    def comparing(self, done: Finished) -> Cell:
        """The cell of the comparison, once the network is trained."""
        return Cell({"do": COMPARE, "weights": done[self.learning]["weights"]}, "bottleneck")

    def cells(self, done: Finished) -> Iterable[Cell]:
        """The network, then its bottleneck."""
        return [self.learning, *([self.comparing(done)] if self.learning in done else [])]

    def worker(self, how: Run) -> DemoWorker:
        """Trains, or compares."""
        return DemoWorker(how.folder, how.files, how.device, how.quiet)

    def fold(self, done: Finished) -> DemoResult:
        """The comparison's result.

        Raises:
            InputError: if it is not finished.
        """
        if self.learning not in done or (cell := self.comparing(done)) not in done:
            raise InputError("the demo's comparison is not finished; run it without fold_only.")
        return DemoResult.of(SayResult.from_dict(done[cell]))


@dataclass(frozen=True)
class DemoWorker(Worker):
    """Trains the network, or runs the comparison, which resumes in a folder of its own.

    Attributes:
        folder: the comparison goes into a folder in it.
        files: gets the network's checkpoint and weights; a folder in it, those of the comparison.
        device: of the training.
        quiet: print no progress.
    """

    folder: Path
    files: Path
    device: str = "auto"
    quiet: bool = False

    @property
    def weights(self) -> Path:
        """Where the network is."""
        return self.files / "segmenter.safetensors"

    @property
    def checkpoint(self) -> Path:
        """Where its training stands, until its cell is stored."""
        return self.files / "segmenter.pt"

    @cached_property
    def scenes(self) -> Scenes:
        """The streets."""
        return GivenData(DRAWN).scenes

    def __call__(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Run one cell."""
        return self._learned(SceneRecipe.of(config["recipe"])) if config["do"] == LEARN else self._compared()

    def stored(self, cell: Cell) -> None:
        """A network whose cell is stored needs no checkpoint."""
        if cell.config["do"] == LEARN:
            self.checkpoint.unlink(missing_ok=True)

    def _learned(self, recipe: SceneRecipe) -> dict[str, Any]:
        net, train = load_model(MODEL, classes=len(self.scenes.classes), width=WIDTH), self.scenes.train
        with Meter("training PSPNet on drawn streets", recipe.epochs * (len(train) // recipe.batch_size)) as meter:
            history = fit(
                net,
                train,
                recipe,
                device=self.device,
                file=self.checkpoint,
                on_step=lambda done, _: meter.update(done),
            )
        save_weights(net.module, self.weights)
        return {"weights": fingerprint(net.module), "epochs": history.epochs}

    def _compared(self) -> dict[str, Any]:
        if not self.weights.is_file():
            raise InputError(
                f"{self.weights} is missing: the trained network was not kept. If it was moved, give weights_folder; "
                "else delete the folder's cells, and the same command trains it again."
            )
        study, out, files = comparison(self.weights), self.folder / FOLDER, self.files / FOLDER
        found = study.run(out, weights_folder=files, device=self.device, quiet=self.quiet)
        explain(study, out, weights_folder=files)
        found.save(out)  # with a link to the explanation
        return found.to_dict()


def comparison(weights: Path) -> Compare:
    """The study of the trained network's bottleneck."""
    options: dict[str, Any] = COMPARED
    return Compare(MODEL, DRAWN, str(weights), WIDTH, **options)
