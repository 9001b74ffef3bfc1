import json
import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from whatwhere.errors import InputError
from whatwhere.training.recipes import LATER, RECIPES, SCENES, Recipe, SceneRecipe, recipe_named


def factors(recipe: Recipe, steps: int) -> list[float]:
    return [recipe.factor(i, steps) for i in range(recipe.epochs * steps)]


def test_constant() -> None:
    assert factors(Recipe(epochs=2, schedule="constant"), 3) == [1.0] * 6


def test_step_acts_from_the_first_step_of_each_milestone_on() -> None:
    recipe = Recipe(epochs=4, schedule="step", milestones=(1, 3), gamma=0.5)
    assert factors(recipe, 2) == [1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]


def test_one_cycle_by_hand() -> None:
    recipe = Recipe(epochs=5, schedule="one-cycle", warmup=0.4)  # of 10 steps, 4 rise and 6 fall
    expected = [1 / 4, 2 / 4, 3 / 4, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]
    assert factors(recipe, 2) == pytest.approx(expected)


@pytest.mark.parametrize(("warmup", "expected"), [(0.0, [1, 1, 2 / 3, 1 / 3]), (1.0, [1 / 4, 2 / 4, 3 / 4, 1])])
def test_one_cycle_at_its_ends(warmup: float, expected: list[float]) -> None:
    assert factors(Recipe(epochs=4, warmup=warmup), 1) == pytest.approx(expected)


def test_poly_by_hand() -> None:
    assert factors(Recipe(epochs=2, schedule="poly"), 2) == pytest.approx([1, 0.75**0.9, 0.5**0.9, 0.25**0.9])


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_stays_between_zero_and_its_peak(name: str) -> None:
    found = factors(recipe_named(name), 3)
    assert max(found) == 1.0
    assert min(found) > 0.0
    peak = found.index(1.0)
    assert found[: peak + 1] == sorted(found[: peak + 1])
    assert found[peak:] == sorted(found[peak:], reverse=True)


def test_the_authors_recipe() -> None:
    recipe = recipe_named("fan2020-cifar")
    lrs = [recipe.lr * recipe.factor(e * 10, 10) for e in (0, 149, 150, 224, 225, 299)]
    assert lrs == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    assert (recipe.epochs, recipe.batch_size, recipe.momentum, recipe.weight_decay) == (300, 128, 0.9, 5e-4)
    assert (recipe.crop_padding, recipe.flip, recipe.nesterov) == (4, True, False)


def test_the_authors_recipes_for_imagenet() -> None:
    recipe = recipe_named("fan2020-imagenet")
    lrs = [recipe.lr * recipe.factor(e * 10, 10) for e in (0, 29, 30, 59, 60, 89)]
    assert lrs == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    assert (recipe.epochs, recipe.batch_size, recipe.momentum, recipe.weight_decay) == (90, 256, 0.9, 1e-4)
    assert (recipe.crop_area, recipe.crop_ratio, recipe.flip) == ((0.08, 1.0), (3 / 4, 4 / 3), True)
    assert (recipe.crop_padding, recipe.nesterov, recipe.label_smoothing) == (0, False, 0)
    small = recipe_named("fan2020-small-imagenet")
    assert small == replace(recipe_named("fan2020-cifar"), lr=0.01)
    assert (small.crop_padding, small.crop_area) == (4, None)


def test_fields_that_came_later_are_left_out_where_nothing_changed() -> None:
    fields = "epochs batch_size optimizer lr schedule milestones gamma warmup momentum nesterov weight_decay"
    fields += " label_smoothing crop_padding flip precision"
    assert [*Recipe(epochs=1).to_dict()] == fields.split()
    named = recipe_named("fan2020-imagenet").to_dict()
    assert named["crop_area"] == (0.08, 1.0)
    assert "crop_ratio" not in named
    assert Recipe(epochs=1, crop_ratio=(1.0, 1.0)).to_dict()["crop_ratio"] == (1.0, 1.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lr": -0.1}, r"lr=-0\.1 must be a number of at least 0"),
        ({"lr": math.nan}, r"lr=nan must be a number"),
        ({"lr": "0.1"}, r"lr='0\.1' must be a number"),
        ({"epochs": 0}, r"epochs=0 must be a whole number of at least 1"),
        ({"epochs": 1.5}, r"epochs=1\.5 must be a whole number"),
        ({"batch_size": 0}, r"batch_size=0 must be a whole number of at least 1"),
        ({"crop_padding": -1}, r"crop_padding=-1 must be"),
        ({"weight_decay": -1.0}, r"weight_decay=-1\.0 must be"),
        ({"warmup": 1.5}, r"warmup=1\.5 must be a number from 0 to 1"),
        ({"momentum": 2}, r"momentum=2 must be a number from 0 to 1"),
        ({"label_smoothing": -0.1}, r"label_smoothing=-0\.1 must be"),
        ({"momentum": 1.0}, r"momentum=1\.0 must be a number from 0 to 1, and less than 1"),
        ({"label_smoothing": 1}, r"label_smoothing=1 must be a number from 0 to 1, and less than 1"),
        ({"flip": "no"}, r"flip='no' matches nothing\. Choices: False, True"),
        ({"nesterov": "false"}, r"nesterov='false' matches nothing.*Choices: False, True"),
        ({"nesterov": "false", "momentum": 0}, r"nesterov='false' matches nothing.*Choices: False, True"),
        ({"milestones": 150}, r"milestones=150 must be whole numbers of epochs, ascending, such as \(150,\) or"),
        ({"milestones": (225, 150)}, r"milestones=\(225, 150\) must be"),
        ({"milestones": (150, 150)}, r"milestones=\(150, 150\) must be"),
        ({"milestones": (1.5,)}, r"milestones=\(1\.5,\) must be"),
        ({"milestones": (True,)}, r"milestones=\(True,\) must be"),
        ({"milestones": (-1, 2)}, r"milestones=\(-1, 2\) must be"),
        ({"milestones": "150"}, r"milestones='150' must be"),
        ({"milestones": None}, r"milestones=None must be"),
        ({"optimizer": "sdg"}, r"optimizer='sdg' matches nothing.* 'sgd'\? Choices: sgd, adamw"),
        ({"schedule": "cosine"}, r"schedule='cosine' matches nothing.* Choices: step, one-cycle, constant"),
        ({"precision": "16"}, r"precision='16' matches nothing.* Choices: 32-true, bf16-mixed"),
        ({"nesterov": True, "momentum": 0}, r"nesterov=True needs a momentum above 0"),
        ({"crop_area": 0.08}, r"crop_area=0\.08 must be \(least, largest\), above 0, at most 1, such as \(0\.08, 1"),
        ({"crop_area": (0.0, 1.0)}, r"crop_area=\(0\.0, 1\.0\) must be"),
        ({"crop_area": (0.5, 1.5)}, r"crop_area=\(0\.5, 1\.5\) must be"),
        ({"crop_area": (0.5, 0.2)}, r"crop_area=\(0\.5, 0\.2\) must be"),
        ({"crop_ratio": (1.0, math.inf)}, r"crop_ratio=\(1\.0, inf\) must be \(least, largest\), above 0, such"),
        ({"crop_ratio": None}, r"crop_ratio=None must be"),
        ({"crop_area": (0.1, 1.0)}, r"crop_area=.* and crop_padding=4 are two ways to crop; give crop_padding=0"),
    ],
)
def test_errors_name_the_field_the_value_and_the_choices(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match="recipe: " + message):
        Recipe(**{"epochs": 1, **wrong})


def test_without_augmentation_changes_nothing_else() -> None:
    recipe = Recipe(epochs=3, lr=0.3)
    plain = recipe.without_augmentation()
    assert (plain.crop_padding, plain.flip) == (0, False)
    assert recipe_named("fan2020-imagenet").without_augmentation().crop_area is None
    assert {**plain.to_dict(), "crop_padding": 4, "flip": True} == recipe.to_dict()


def test_a_recipe_survives_json() -> None:
    recipe = recipe_named("fan2020-imagenet")
    plain = json.loads(json.dumps(recipe.to_dict()))
    assert Recipe(**{**plain, **{k: tuple(plain[k]) for k in ("milestones", "crop_area")}}) == recipe
    assert Recipe.of(plain) == recipe


def test_lists_are_taken_for_tuples() -> None:
    """As they come out of a JSON or a YAML file, and as checkpoints and cells hold them."""
    recipe = Recipe(epochs=1, milestones=[1, 2], crop_padding=0, crop_area=[0.1, 1.0])  # type: ignore[arg-type]
    assert recipe == Recipe(epochs=1, milestones=(1, 2), crop_padding=0, crop_area=(0.1, 1.0))
    assert hash(recipe) == hash(replace(recipe))
    scenes = SceneRecipe(epochs=1, crop=[8, 8], scale=[1, 2], class_weights=[1.0, np.float32(2)])  # type: ignore[arg-type]
    assert scenes == SceneRecipe(epochs=1, crop=(8, 8), scale=(1, 2), class_weights=(1.0, 2.0))


def test_an_unknown_name_shows_the_nearest() -> None:
    with pytest.raises(InputError, match=r"recipe='fats' matches nothing\. Did you mean 'fast'"):
        recipe_named("fats")


# Scenes


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"crop_area": (0.1, 1.0)}, r"crop_area=\(0\.1, 1\.0\): scenes are cropped by crop and scale"),
        ({"crop": (0, 8)}, r"crop=\(0, 8\) must be \(height, width\), both at least 1"),
        ({"crop": (8,)}, r"crop=\(8,\) must be"),
        ({"scale": (0.0, 1.0)}, r"scale=\(0\.0, 1\.0\) must be \(least, most\), above 0"),
        ({"scale": (2.0, 1.0)}, r"scale=\(2\.0, 1\.0\) must be"),
        ({"scale": (1.0, math.nan)}, r"scale=\(1\.0, nan\) must be"),
        ({"scale": (1.0, math.inf)}, r"scale=\(1\.0, inf\) must be"),
        ({"auxiliary": -0.1}, r"auxiliary=-0\.1 must be a number of at least 0"),
        ({"auxiliary": math.nan}, r"auxiliary=nan must be"),
        ({"class_weights": (1.0, -1.0)}, r"class_weights=\(1\.0, -1\.0\) must be numbers of at least 0"),
        ({"class_weights": (math.nan,)}, r"class_weights=\(nan,\) must be"),
        ({"lr": -0.1}, r"lr=-0\.1 must be a number of at least 0"),
        ({"crop": 256}, r"crop=256 must be \(height, width\), both at least 1"),
        ({"crop": (8.5, 8)}, r"crop=\(8\.5, 8\) must be"),
        ({"scale": 2.0}, r"scale=2\.0 must be"),
        ({"scale": ("a", "b")}, r"scale=\('a', 'b'\) must be"),
        ({"auxiliary": "no"}, r"auxiliary='no' must be"),
        ({"class_weights": 1.0}, r"class_weights=1\.0 must be"),
        ({"class_weights": ("a",)}, r"class_weights=\('a',\) must be"),
        ({"flip": "no"}, r"flip='no' matches nothing"),
        ({"milestones": 150}, r"milestones=150 must be"),
    ],
)
def test_a_scene_recipes_errors_name_the_value(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match="recipe: " + message):
        SceneRecipe(**{"epochs": 1, **wrong})


def test_whole_scenes_without_augmentation() -> None:
    plain = SCENES.without_augmentation()
    assert (plain.crop, plain.flip) == (None, False)
    assert {**plain.to_dict(), "crop": SCENES.crop, "flip": True} == SCENES.to_dict()


def test_a_scene_recipe_survives_json() -> None:
    recipe = SceneRecipe(epochs=2, crop=(8, 9), class_weights=(1.0, 2.0))
    plain = json.loads(json.dumps(recipe.to_dict()))
    pairs = {k: tuple(plain[k]) for k in ("crop", "scale", "milestones", "class_weights")}
    assert SceneRecipe(**{**plain, **pairs}) == recipe
    assert SCENES.optimizer == "adamw"
    assert SCENES.factor(0, 10) == 1.0


def test_later_fields_are_left_out_while_they_are_as_before() -> None:
    """Cells and checkpoints from before these fields keep their names."""
    plain = Recipe(epochs=1).to_dict()
    assert not set(LATER) & set(plain)
    assert set(plain) | set(LATER) == {f.name for f in fields(Recipe)}
    assert all(getattr(Recipe(epochs=1), name) == value for name, value in LATER.items())
    changed = Recipe(epochs=1, ema=0.9, compile=True)
    assert changed.to_dict() == {**plain, "ema": 0.9, "compile": True}
    assert Recipe.of(json.loads(json.dumps(changed.to_dict()))) == changed


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"ema": 1.5}, r"ema=1\.5 must be a number from 0 to 1"),
        ({"settled": -0.5}, r"settled=-0\.5 must be a number from 0 to 1"),
        ({"fused": "yes"}, r"fused='yes' matches nothing\. Choices: False, True"),
        ({"compile": 2}, r"compile='2' matches nothing"),
        ({"precision": "tf16"}, r"precision='tf16' matches nothing\. Did you mean 'tf32'"),
    ],
)
def test_errors_of_how_steps_are_run(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match="recipe: " + message):
        Recipe(epochs=1, **wrong)


def test_a_detectors_recipe_is_looked_at_as_any_other() -> None:
    for wrong, message in (
        ({"flip": "no"}, "flip='no'"),
        ({"milestones": 5}, "milestones=5"),
        ({"momentum": 1}, "mom"),
    ):
        with pytest.raises(InputError, match=f"recipe: {message}"):
            replace(recipe_named("boxes"), **wrong)  # type: ignore[arg-type]


def test_a_detector_is_not_compiled() -> None:
    with pytest.raises(InputError, match="compile=True: a detector finds another number of boxes"):
        replace(recipe_named("boxes"), compile=True)
