"""Fit and evaluate a network."""

from whatwhere.training.evaluate import Evaluation, evaluate
from whatwhere.training.evaluate_scenes import SceneEvaluation, evaluate_scenes
from whatwhere.training.fit import History, fit
from whatwhere.training.recipes import RECIPES, SCENES, Recipe, SceneRecipe

__all__ = [
    "RECIPES",
    "SCENES",
    "Evaluation",
    "History",
    "Recipe",
    "SceneEvaluation",
    "SceneRecipe",
    "evaluate",
    "evaluate_scenes",
    "fit",
]
