"""Cells of a study of trained networks, of a network with four cuts."""

from whatwhere.need.studies.trained_cells import TrainedCells
from whatwhere.site import Site
from whatwhere.training.recipes import Recipe


def cut(name: str, order: int, share: float, before: int) -> Site:
    return Site(name, name, 1, order, "conv", "NCHW", (3, 8, 8), (3, 8, 8), share, before)


CUTS = [cut("a", 0, 1.0, 0), cut("b", 1, 0.75, 100), cut("c", 2, 0.5, 300), cut("d", 3, 0.25, 600)]


def trained_cells(repeats: int = 5) -> TrainedCells:
    recipe = Recipe(epochs=2, batch_size=4)
    return TrainedCells("m", {"classes": 2}, {"train": "x", "test": "y"}, recipe, repeats, CUTS, (40, 10), 1000)
