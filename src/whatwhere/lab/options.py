"""Options that several studies share, defined and documented once. Light: `--help` reads them without torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from whatwhere.errors import InputError
from whatwhere.training.recipes import Precision, Recipe, adapted, recipe_named

if TYPE_CHECKING:
    from torch import nn

    from whatwhere.data import Data
    from whatwhere.data.boxes import Boxes
    from whatwhere.data.scenes import Scenes
    from whatwhere.lab.sources import GivenData, GivenNetwork
    from whatwhere.network import Network
    from whatwhere.scores.score import Score

    AnyNetwork: TypeAlias = str | nn.Module | Network
    AnyData: TypeAlias = str | os.PathLike[str] | Data | Scenes | Boxes  # what load_data returns
    AnyRecipe: TypeAlias = str | Recipe
    AnyScore: TypeAlias = str | Score | Callable[..., Any] | None
    Selection: TypeAlias = str | tuple[str, ...] | list[str] | None
else:  # what a command line can give
    AnyScore = str | None
    AnyNetwork = AnyData = AnyRecipe = str
    Selection = tuple[str, ...] | None


@dataclass(frozen=True)
class Measured:
    """A trained network, and the pictures that it is measured on.

    Attributes:
        model: timm/NAME, torchvision/NAME, hf/ID, cifar/NAME, package.module:function, a function of yours that makes
            the network, or a folder that ww.save or Hugging Face's save_pretrained wrote; in Python also a module or a
            `Network`; never changed.
        data: hf/ID, a folder, known/what, known/where, known/surroundings or digits; in Python also a `Data`.
        weights: file of the trained network's weights (.safetensors, or a PyTorch checkpoint of tensors).
        pretrained: take the library's own weights, which it downloads.
        classes: number of scores; that of the data if not given, with `pretrained` the library's.
        width: width factor of cifar/, pspnet/ and ssd/ networks.
    """

    model: AnyNetwork
    data: AnyData
    weights: str | None = None
    pretrained: bool = False
    classes: int | None = None
    width: float = 1.0

    @cached_property
    def data_source(self) -> GivenData:
        """Where the pictures are."""
        from whatwhere.lab.sources import GivenData

        return GivenData.of(self.data)

    @cached_property
    def network_source(self) -> GivenNetwork:
        """Where the network is."""
        from whatwhere.lab.sources import GivenNetwork

        options = {"pretrained": self.pretrained, "width": self.width, "classes": self.classes}
        if isinstance(self.model, str) and self.classes is None and not self.pretrained:
            options["classes"] = len(self._classes) or None
        return GivenNetwork.of(self.model, self.weights, options)

    @property
    def _classes(self) -> tuple[str, ...]:
        """Of the pictures."""
        return self.data_source.data.classes


CHANGES = ("epochs", "batch_size", "lr", "precision", "ema", "fused", "compile")  # of a recipe, by options


@dataclass(frozen=True)
class Tuning:
    """How networks are trained.

    Attributes:
        recipe: fan2020-cifar, fan2020-cifar-fast, fan2020-small-imagenet, fan2020-imagenet, wang2018-imagenet, fast,
            finetune, vit or demo; in Python also a `Recipe`.
        epochs: passes over the training pictures, instead of the recipe's.
        batch_size: pictures in a step, instead of the recipe's.
        lr: peak learning rate, instead of the recipe's.
        precision: instead of the recipe's; bf16-mixed is faster where the processor has bfloat16, tf32 on GPUs.
        ema: decay of a running average of the weights, which is kept in their place, such as 0.999.
        fused: update all weights in one kernel.
        compile: by torch.compile, on a GPU with CUDA graphs.
        augment: crop and flip as the recipe says.
    """

    recipe: AnyRecipe = "fast"
    epochs: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    precision: Precision | None = None
    ema: float | None = None
    fused: bool | None = None
    compile: bool | None = None
    augment: bool = True

    @cached_property
    def how(self) -> Recipe:
        """The recipe, with what was given instead of its values.

        Raises:
            InputError: for an unknown recipe or a value out of range.
        """
        given = recipe_named(self.recipe) if isinstance(self.recipe, str) else self.recipe
        return adapted(given, self.augment, **{name: getattr(self, name) for name in CHANGES})


@dataclass(frozen=True)
class _Named:
    """A network and pictures by name.

    Attributes:
        model: timm/NAME, torchvision/NAME, cifar/NAME, package.module:function, a function of yours that makes the
            network with fresh weights, or a folder that ww.save wrote, whose layers are trained anew.
        data: hf/ID, a folder, known/what, known/where, known/surroundings or digits; its train split is trained on.
        width: width factor of cifar/ networks.
    """

    model: str
    data: str
    width: float = 1.0


@dataclass(frozen=True)
class Learned(Tuning, _Named):
    """Networks by name that are trained anew, and how; the name and the pictures come first."""

    @cached_property
    def data_source(self) -> GivenData:
        """Where the pictures are."""
        from whatwhere.lab.sources import GivenData

        return GivenData.of(self.data)

    @cached_property
    def how(self) -> Recipe:
        """The recipe, with what was given instead of its values.

        Raises:
            InputError: for a network that is not given by name; as `Tuning.how`.
        """
        if not isinstance(self.model, str):
            raise InputError(
                f"model is a {type(self.model).__name__}; networks that are trained anew are given by name, those of "
                "your own as 'package.module:function', a function that makes one."
            )
        return super().how


def given_only(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are not None: the others keep the default of whatever takes them."""
    return {name: value for name, value in options.items() if value is not None}


def as_tuple(values: Any) -> tuple[Any, ...]:
    """One value or several, each once, in their order."""
    several = isinstance(values, Iterable) and not isinstance(values, str)
    return tuple(dict.fromkeys(values if several else [values]))
