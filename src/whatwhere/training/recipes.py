"""Recipes: all settings of a training in one value, which is stored with the result."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from numbers import Integral, Real
from typing import Any, Literal, Self, TypeAlias

from whatwhere.errors import InputError, unknown

BOUNDS: dict[str, tuple[Any, float, float]] = {  # type, minimum, maximum
    "epochs": (int, 1, math.inf),
    "batch_size": (int, 1, math.inf),
    "crop_padding": (int, 0, math.inf),
    "lr": (int | float, 0, math.inf),
    "gamma": (int | float, 0, math.inf),
    "weight_decay": (int | float, 0, math.inf),
    "warmup": (int | float, 0, 1),
    "momentum": (int | float, 0, 1),
    "label_smoothing": (int | float, 0, 1),
    "ema": (int | float, 0, 1),
    "settled": (int | float, 0, 1),
}
BELOW = {"momentum", "label_smoothing"}  # their maximum
CHOICES: dict[str, tuple[Any, ...]] = {
    "optimizer": ("sgd", "adamw"),
    "schedule": ("step", "one-cycle", "constant", "poly"),
    "precision": ("32-true", "bf16-mixed", "tf32"),
    "nesterov": (False, True),
    "flip": (False, True),
    "fused": (False, True),
    "compile": (False, True),
    "channels_last": (False, True),
}
LATER: dict[str, Any] = {
    "ema": 0.0,
    "settled": 1.0,
    "fused": False,
    "compile": False,
    "channels_last": True,
    "crop_area": None,
    "crop_ratio": (3 / 4, 4 / 3),
}
"""Fields that came later, with what they were before: left out of plain values while they are so, so that cells and
checkpoints from before keep their names."""


Precision: TypeAlias = Literal["32-true", "bf16-mixed", "tf32"]
POLY = 0.9  # the power, as in DeepLab and PSPNet


def _check_number(name: str, value: Any, kind: Any, least: float, most: float) -> None:
    """Refuse a setting that is no number, or lies outside of its bounds."""
    right = isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)
    if not (right and least <= value <= most) or (name in BELOW and value == most):
        what = "a whole number" if kind is int else "a number"
        limit = f"from {least} to {most}" if most < math.inf else f"of at least {least}"
        limit += f", and less than {most}" if name in BELOW else ""
        raise InputError(f"recipe: {name}={value!r} must be {what} {limit}.")


def _numbers(values: Any, kind: Any = Real) -> bool:
    """Whether these are several numbers."""
    return isinstance(values, tuple) and all(isinstance(v, kind) and not isinstance(v, bool) for v in values)


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        epochs: passes over the training pictures.
        batch_size: pictures in a step; the last, incomplete batch of an epoch is left out.
        optimizer: `sgd` (with momentum) or `adamw`.
        lr: the (peak) learning rate.
        schedule: `step` multiplies by `gamma` at each milestone; `one-cycle` rises linearly for `warmup` of the steps
            and then falls linearly to zero; `constant`; `poly` falls to zero as (1 - step / steps) to the power of 0.9.
        milestones: epochs at which `step` multiplies, ascending.
        gamma: factor of `step`.
        warmup: share of all steps during which `one-cycle` rises.
        momentum: of `sgd`, in [0, 1).
        nesterov: of `sgd`.
        weight_decay: on every parameter, as in the papers; 0 for none.
        label_smoothing: in [0, 1).
        crop_padding: pad by this many pixels and crop back at random; 0 for none. They are black; in floats that a
            Dataset prepared they are 0, which is about the mean of normalised pictures.
        flip: mirror left-right at random.
        crop_area: cut a window out at random and resize it to the network's size: the least and the largest share of
            the picture that it has; (0.08, 1.0) is usual on ImageNet. None for none; not of scenes, nor of boxes.
        crop_ratio: the least and the largest width over height of that window.
        precision: `32-true`, or `bf16-mixed` (Lightning Fabric's names); `tf32` is `32-true` whose matrix products a
            GPU may round to TF32 (those of convolutions PyTorch rounds so always).
        ema: decay of a running average of the weights, which is tested and kept in their place; 0 for none.
        settled: share of all steps after which batch norm uses its running statistics, as it does in tests.
        fused: update all weights in one kernel; it rounds otherwise than the plain optimizer.
        compile: by `torch.compile`, on a GPU with CUDA graphs; it rounds otherwise, and needs a C++ compiler on a CPU.
        channels_last: in memory; faster nearly everywhere, and the same numbers but for rounding.
    """

    epochs: int
    batch_size: int = 128
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.1
    schedule: Literal["step", "one-cycle", "constant", "poly"] = "one-cycle"
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    warmup: float = 0.2
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    crop_padding: int = 4
    flip: bool = True
    crop_area: tuple[float, float] | None = None
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    precision: Precision = "32-true"
    ema: float = 0.0
    settled: float = 1.0
    fused: bool = False
    compile: bool = False
    channels_last: bool = True

    def __post_init__(self) -> None:
        """Refuse values that cannot be trained with.

        Raises:
            InputError: with the field, its value, and what is allowed.
        """
        for each in fields(self):
            if isinstance(value := getattr(self, each.name), list):  # as from a JSON or a YAML file
                object.__setattr__(self, each.name, tuple(value))
        for name, (kind, least, most) in BOUNDS.items():
            _check_number(name, getattr(self, name), kind, least, most)
        if not self.lr:
            raise InputError(f"recipe: lr={self.lr!r} must be above 0: at 0 nothing is learned.")
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise unknown(f"recipe: {name}", str(getattr(self, name)), map(str, known))
        if self.nesterov and self.optimizer == "sgd" and not self.momentum:
            raise InputError("recipe: nesterov=True needs a momentum above 0; momentum=0.9 is usual.")
        self._check_milestones()
        self._check_window()

    def _check_milestones(self) -> None:
        marks = self.milestones
        if not (_numbers(marks, Integral) and all(m >= 0 for m in marks) and list(marks) == sorted(set(marks))):
            raise InputError(
                f"recipe: milestones={marks!r} must be whole numbers of epochs, ascending, such as (150,) or "
                "(150, 225)."
            )

    def _check_window(self) -> None:
        for name, most, usual in (("crop_area", 1.0, "(0.08, 1.0)"), ("crop_ratio", math.inf, "(0.75, 1.333)")):
            value = getattr(self, name)
            if value is None and name == "crop_area":
                continue
            pair = _numbers(value) and len(value) == 2
            if not (pair and 0 < value[0] <= value[1] <= most and math.isfinite(value[1])):
                limit = ", at most 1" if most == 1 else ""
                raise InputError(f"recipe: {name}={value!r} must be (least, largest), above 0{limit}, such as {usual}.")
        if self.crop_area and self.crop_padding:
            raise InputError(
                f"recipe: crop_area={self.crop_area} and crop_padding={self.crop_padding} are two ways to crop; give "
                "crop_padding=0, or crop_area=None."
            )

    def without_augmentation(self) -> Recipe:
        """The same recipe without crop and flip."""
        return replace(self, crop_padding=0, crop_area=None, flip=False)

    def factor(self, step: int, steps_per_epoch: int) -> float:
        """The factor of the learning rate at a step, counted from 0."""
        if self.schedule == "constant":
            return 1.0
        if self.schedule == "step":
            return math.prod(self.gamma for m in self.milestones if step >= m * steps_per_epoch)
        total = self.epochs * steps_per_epoch
        if self.schedule == "poly":
            return (1 - step / total) ** POLY
        rise = max(1, round(self.warmup * total))
        return (step + 1) / rise if step < rise else (total - step) / max(1, total - rise)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for cell keys and result files."""
        return {name: value for name, value in asdict(self).items() if name not in LATER or value != LATER[name]}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Self:
        """From the plain values in a result file."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()}
        return cls(**values)


@dataclass(frozen=True)
class SceneRecipe(Recipe):
    """How to train a segmentation network; `crop_padding` has no effect here.

    Attributes:
        crop: (height, width) of the random crop; None takes whole inputs, neither scaled nor mirrored.
        scale: range of the factor that the picture is resized by before the crop, drawn uniformly on a log scale.
        auxiliary: weight of the auxiliary scores' loss.
        class_weights: of each class in the loss; empty: equal weights.
    """

    batch_size: int = 8
    lr: float = 0.01
    schedule: Literal["step", "one-cycle", "constant", "poly"] = "poly"
    weight_decay: float = 1e-4
    crop_padding: int = 0
    crop: tuple[int, int] | None = (256, 256)
    scale: tuple[float, float] = (0.5, 2.0)
    auxiliary: float = 0.4
    class_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse values that cannot be trained with.

        Raises:
            InputError: with the field, its value, and what is allowed.
        """
        super().__post_init__()
        if self.crop_area:
            raise InputError(f"recipe: crop_area={self.crop_area}: scenes are cropped by crop and scale; leave it out.")
        if self.crop is not None and not (
            _numbers(self.crop, Integral) and len(self.crop) == 2 and min(self.crop) >= 1
        ):
            raise InputError(f"recipe: crop={self.crop!r} must be (height, width), both at least 1.")
        if not (_numbers(self.scale) and len(self.scale) == 2 and 0 < self.scale[0] <= self.scale[1] < math.inf):
            raise InputError(f"recipe: scale={self.scale!r} must be (least, most), above 0, such as (0.5, 2.0).")
        if not (_numbers((self.auxiliary,)) and 0 <= self.auxiliary < math.inf):
            raise InputError(f"recipe: auxiliary={self.auxiliary!r} must be a number of at least 0.")
        if not (_numbers(self.class_weights) and all(0 <= w < math.inf for w in self.class_weights)):
            raise InputError(f"recipe: class_weights={self.class_weights!r} must be numbers of at least 0.")

    def without_augmentation(self) -> SceneRecipe:
        """The same recipe on whole pictures, without scaling and flip."""
        return replace(self, crop=None, flip=False)


@dataclass(frozen=True)
class BoxRecipe(Recipe):
    """How to train a detector, on whole pictures, which are mirrored if `flip` says so."""

    batch_size: int = 16
    optimizer: Literal["sgd", "adamw"] = "adamw"
    lr: float = 0.01
    weight_decay: float = 1e-2
    crop_padding: int = 0

    def __post_init__(self) -> None:
        """Refuse values that cannot be trained with.

        Raises:
            InputError: with the field, its value, and what is allowed.
        """
        super().__post_init__()
        crops = self.crop_padding or self.crop_area
        if crops or self.label_smoothing or self.precision != "32-true":
            raise InputError(
                f"recipe: crop_padding={self.crop_padding}, crop_area={self.crop_area}, label_smoothing="
                f"{self.label_smoothing}, precision={self.precision!r}: detectors are trained on whole pictures with "
                "torchvision's losses, in full precision; give 0, None, 0 and '32-true'."
            )
        if self.compile:
            raise InputError(
                "recipe: compile=True: a detector finds another number of boxes in each step; leave compile out."
            )


# Segmentation from random weights: AdamW learns more in few epochs than the papers' SGD.
SCENES = SceneRecipe(epochs=60, optimizer="adamw", lr=1e-3, weight_decay=1e-2)

# Random resized crops and flips. Tests are on the middle 224 px of 256, as torchvision's networks have it in their
# preprocessing; some of timm's have other shares and bicubic resizing.
IMAGENET = Recipe(
    epochs=90,
    batch_size=256,
    schedule="step",
    milestones=(30, 60),
    weight_decay=1e-4,
    crop_padding=0,
    crop_area=(0.08, 1.0),
)

RECIPES: dict[str, Recipe] = {
    # [fan2020], the authors' code: CIFAR-100; Small-ImageNet, the same at a tenth of the rate (its crop, 4 px of black
    # around, is said of 32 px; of 64 px none is said); ImageNet, on which they train 90 to 100 epochs.
    "fan2020-cifar": Recipe(epochs=300, schedule="step", milestones=(150, 225)),
    "fan2020-small-imagenet": Recipe(epochs=300, lr=0.01, schedule="step", milestones=(150, 225)),
    "fan2020-imagenet": IMAGENET,
    # [wang2018] trains on ILSVRC2012; how, its abstract and introduction do not say. What is usual for such networks.
    "wang2018-imagenet": IMAGENET,
    # One cycle, Nesterov: nearly the reference accuracy in a fraction of the epochs.
    "fast": Recipe(epochs=20, nesterov=True),
    # The same for VGG-16 on CIFAR-100, which overfits: of seven variants this one was best on 5,000 training pictures
    # that were held out (reproductions/fan2020).
    "fan2020-cifar-fast": Recipe(epochs=60, nesterov=True, weight_decay=1e-3, label_smoothing=0.1),
    # A trained network, changed and trained on: few epochs, at a tenth of the rate that networks are trained anew with.
    "finetune": Recipe(epochs=5, lr=0.01, nesterov=True),
    # Vision transformers from random weights: AdamW, more weight decay. On CIFAR-100 100 epochs; `epochs` for fewer.
    "vit": Recipe(epochs=100, optimizer="adamw", lr=1e-3, weight_decay=0.05),
    # The tasks with known answers of the demo.
    "demo": Recipe(epochs=3, lr=0.05, batch_size=64, crop_padding=0, flip=False, nesterov=True),
    # A small detector on drawn pictures, whose textures would be others if they were mirrored.
    "boxes": BoxRecipe(epochs=12, flip=False),
}

recipes = RECIPES  # the public name


def recipe_named(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        InputError: for an unknown name, with the nearest ones.
    """
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return RECIPES[name]


def adapted(recipe: Recipe, augment: bool, **changes: float | str | None) -> Recipe:
    """A recipe with some values replaced.

    Args:
        recipe: to start from.
        augment: keep crop and flip.
        **changes: new values by field; None keeps the recipe's.
    """
    changed = type(recipe).of({**recipe.to_dict(), **{k: v for k, v in changes.items() if v is not None}})
    return changed if augment else changed.without_augmentation()
