"""Fit and evaluate a network."""

from whatwhere.training.evaluate import Evaluation, evaluate
from whatwhere.training.fit import History, fit
from whatwhere.training.recipes import RECIPES, Recipe

__all__ = ["RECIPES", "Evaluation", "History", "Recipe", "evaluate", "fit"]
