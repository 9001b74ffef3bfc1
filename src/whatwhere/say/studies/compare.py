"""What does a bottleneck of concepts cost and give? Every kind at every site, fine-tuned and measured alike."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from whatwhere.lab.options import AnyNetwork
from whatwhere.lab.study import Study
from whatwhere.training.recipes import SceneRecipe

if TYPE_CHECKING:
    from whatwhere.data.scenes import Scenes
    from whatwhere.lab.sources import GivenData, GivenNetwork
    from whatwhere.say.studies.compare_result import SayResult  # noqa: F401

    AnyScenes: TypeAlias = str | os.PathLike[str] | Scenes
    AnyConcepts: TypeAlias = str | os.PathLike[str] | Mapping[str, Any] | None
else:  # what a command line can give
    AnyScenes, AnyConcepts = str, str | None

KINDS: Mapping[str, str] = {
    "intact": "the network as it was trained",
    "tuned": "no bottleneck, what follows the site fine-tuned as long as the others: what tuning alone does",
    "ssb": "supervised: every map a labelled concept, fitted before, then kept",
    "ssb-binary": "the same maps rounded to 0 and 1 before what follows is fine-tuned: no room for leakage",
    "usb": "unsupervised: softmax groups, driven towards one-hot while all is fine-tuned",
    "learned": "a 1 x 1 convolution of the same width, fine-tuned with what follows: the control of the width",
    "pca": "the first principal components of the features, kept",
    "random": "random directions, kept",
    "truth": "the labels' own concept maps in the place of predicted ones: the ceiling of these concepts",
}
TUNING = SceneRecipe(
    epochs=10, optimizer="adamw", lr=1e-3, weight_decay=1e-2, batch_size=8, crop=None, auxiliary=0.0, flip=False
)
SITE = "backbone.layer4"  # of a PSPNet


@dataclass(frozen=True)
class Compare(Study["SayResult"]):
    """Put bottlenecks of all kinds into a trained segmentation network, and measure what they cost and give.

    Sites, kinds and seeds may be added later in the same folder: the result is of all that is finished there.

    Attributes:
        model: the trained network's name, such as pspnet/resnet18, torchvision/deeplabv3_resnet50 or smp/unet/resnet18,
            or a folder that ww.save wrote; in Python also a module or a `Network`; never changed.
        data: a folder with pictures and label maps, Cityscapes, or drawn/streets; in Python also a `Scenes`.
        weights: file of the trained network's weights (.safetensors, or a PyTorch checkpoint of tensors).
        width: width factor of pspnet/ networks.
        sites: names of modules; a bottleneck goes behind each in turn.
        concepts: a JSON file such as {"merged": {"vehicle": ["car", "bus"]}, "named": ["part"], "colours": true,
            "textures": true, "positions": true, "only": ["colour: g*"], "select": {"pictures": 10, "most": 40}};
            cityscapes, for Cityscapes' categories; broden/FOLDER, for the parts, materials and textures of Broden+ in a
            folder; in Python also a mapping; if not given, what the label maps and the pixels offer.
        kinds: tuned, ssb, ssb-binary, usb, learned, pca, random, truth; intact is always among them.
        seeds: of the fine-tuning and of random directions; the network itself is one.
        epochs: passes of the fine-tuning over the training pictures.
        batch_size: pictures in a step of the fine-tuning.
        lr: learning rate of the fine-tuning (AdamW), at its start.
        group: maps in a softmax group of usb.

    Examples:
        $ whatwhere say compare --model pspnet/resnet18 --weights net/weights.safetensors --data FOLDER --out say
        $ whatwhere say compare --model pspnet/resnet18 --weights NET --data drawn/streets --kinds ssb,learned
    """

    kind: ClassVar[str] = "bottleneck"
    plan: ClassVar[str] = "whatwhere.say.studies.compare_plan:ComparePlan"
    result: ClassVar[str] = "whatwhere.say.studies.compare_result:SayResult"

    model: AnyNetwork
    data: AnyScenes
    weights: str | None = None
    width: float = 1.0
    sites: tuple[str, ...] = (SITE,)
    concepts: AnyConcepts = None
    kinds: tuple[str, ...] = tuple(k for k in KINDS if k != "intact")
    seeds: tuple[int, ...] = (0,)
    epochs: int = TUNING.epochs
    batch_size: int = TUNING.batch_size
    lr: float = TUNING.lr
    group: int = 4

    @cached_property
    def scene_source(self) -> GivenData:
        """Where the scenes are."""
        from whatwhere.lab.sources import GivenData

        return GivenData.of(self.data)

    @cached_property
    def network_source(self) -> GivenNetwork:
        """Where the network is; one by name gets a score for each class of the scenes."""
        from whatwhere.lab.sources import GivenNetwork

        options: dict[str, float] = {"width": self.width}
        if isinstance(self.model, str):
            options["classes"] = len(self.scene_source.scenes.classes)
        return GivenNetwork.of(self.model, self.weights, options)

    @property
    def recipe(self) -> SceneRecipe:
        """Of the fine-tuning.

        Raises:
            InputError: for a value out of range.
        """
        return replace(TUNING, epochs=self.epochs, batch_size=self.batch_size, lr=self.lr)
