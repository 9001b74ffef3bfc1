"""A study of trained networks, as small as can be."""

import whatwhere as ww
from whatwhere.need.studies.trained import Trained

RECIPE = ww.Recipe(epochs=1, batch_size=64, lr=0.05, crop_padding=1, flip=False)


OPTIONS = {
    "recipe": RECIPE,
    "width": 0.07,
    "shares": (0.38, 1.0),
    "matrix": (0.38,),
    "repeats": 2,
}


def study(**options) -> Trained:
    return Trained("cifar/vgg11", "digits", **{**OPTIONS, **options})
