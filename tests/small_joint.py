"""The joint study: options that make it small, and cells and results whose numbers are known."""

import numpy as np

import whatwhere as ww
from whatwhere.use import Joint, JointResult
from whatwhere.use.studies.joint_cell import Look
from whatwhere.use.studies.joint_rows import rows_of

LOOK = Look(("a", "b"), ("H", "V"))
MORE = {"gain": 1.5, "loss": 0.6}

SITES = ["layers.0.2", "layers.2.2"]
SMALL = {
    "methods": ("ms_sar",),
    "seeds": (0,),
    "recipe": ww.Recipe(epochs=1, batch_size=64, lr=0.02, crop_padding=0, flip=False),
    "width": 0.5,
    "sites": SITES,
    "targets": ("H", "G"),
    "pictures": 12,
    "test_pictures": 5,
    "repeats": 2,
    "limit": 20,
}


def joint(out, model="cifar/resnet20", how=(), **options):
    """The study, run in a folder."""
    return Joint(model, "digits", **{**SMALL, **options}).run(out, quiet=True, **dict(how))


def cell(seed, gain=0.0, loss=0.0):
    g = np.random.default_rng(seed)
    spc = {t: {s: float(g.random() / 2 + gain) for s in LOOK.sites} | {"rgb": 0.1} for t in LOOK.targets}
    fresh = {t: {s: float(g.random()) for s in LOOK.sites} | {"rgb": 0.1} for t in LOOK.targets}
    accuracy = {"intact": 0.9, **{s: float(g.random() / 10 + 0.7 - loss) for s in LOOK.sites}}
    return {"held": {"spc": spc, "n": 7}, "untrained": {"spc": fresh, "n": 7}, "kept": {"accuracy": accuracy, "n": 11}}


def folded(**more):
    found = {("none", s): cell(s) for s in range(3)} | {("se", s): cell(s + 10, **more) for s in range(3)}
    rows = [r for n in ("none", "se") for r in rows_of(n, [0, 1, 2], found, LOOK)]
    settings = {"look": LOOK.to_dict(), "depth_shares": {"a": 1.0, "b": 0.5}, "model": "m"}
    return found, JointResult(tuple(rows), {"name": "d"}, settings)
