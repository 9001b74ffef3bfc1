"""Networks into folders: the weights beside how the network was made, so that any process can make it again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from whatwhere.errors import InputError
from whatwhere.files import refuse_foreign, write_atomically, write_json
from whatwhere.fingerprints import architecture, fingerprint
from whatwhere.models.opened import CONFIG, WEIGHTS, Config, writer_of
from whatwhere.models.weights import save_weights
from whatwhere.network import Base, Network, check_finite
from whatwhere.site import evaluating, expected_input_size
from whatwhere.surgery import surgeries

SAVE = "ww.save"
OWN = "Make it in a function, load_model('package.module:function'), and save what that returns"


def save(
    net: Network,
    folder: str | os.PathLike[str],
    *,
    classes: Sequence[str] = (),
    overwrite: bool = False,
    by: str = SAVE,
) -> Path:
    """Write a network into a folder, which `load_model` and the `--model` of every command take like a name.

    >>> ww.save(ww.need.collapse(net, "last 30%"), "small")
    >>> small = ww.load_model("small")               # in this process or another, with the same preprocessing

    The folder gets `weights.safetensors` and `config.json`. Before they are written, the network is made again from
    what they will say, and must have the same layers and answers.

    Args:
        net: a network that `load_model` made; since then it may have been trained and operated on (`ww.need.collapse`,
            `ww.use.recalibrate`, `ww.hold.with_padding`, `ww.say.bottleneck`).
        folder: made if it is not there.
        classes: names of the scores in their order; those that the network knows, if not given.
        overwrite: replace these two files also if `save` did not write them.
        by: who writes; without `overwrite` only files of the same writer are replaced.

    Returns:
        The folder.

    Raises:
        InputError: for a network that `load_model` did not make, surgery with an option that is no plain value, layers
            that were changed by hand, weights that are not finite, or files of others in the folder.
    """
    where = Path(folder)
    if isinstance(classes, str):
        raise InputError(f"classes={classes!r}: give the names of all scores, such as ['cat', 'dog'].")
    if said := unsavable(net):
        raise InputError(said)
    check_finite(net)
    check_place(where, by, overwrite=overwrite)
    config = _config(net, classes, by)
    _check_comes_back(net, config)
    write_atomically(where / CONFIG, lambda draft: _write(net, config, draft, where / WEIGHTS))
    return where


def _write(net: Network, config: Config, draft: Path, weights: Path) -> None:
    """Both files are complete before one of them replaces an earlier one.

    A kill between the two is seen when the folder is opened, since the config holds the fingerprint of the weights.
    """
    write_json(draft, asdict(config))
    save_weights(net.module, weights)


def check_place(folder: Path, by: str, *, overwrite: bool = False, argument: str = "folder") -> None:
    """Refuse a folder in which others wrote files of the same names.

    Args:
        folder: where a network will be written.
        by: who will write it.
        overwrite: what the user said.
        argument: that the folder was given as.

    Raises:
        InputError: naming the files that are there.
    """
    files = [folder / WEIGHTS, folder / CONFIG]
    refuse_foreign(folder, files, ours=writer_of(folder) == by, overwrite=overwrite, argument=argument)


def unsavable(net: Any) -> str:
    """Why no file can say how a network was made; "" if it can, as far as is seen without trying."""
    if not isinstance(net, Network):
        return f"net is a {type(net).__name__}, and no file can say how it was made. {OWN}."
    if net.base is None:
        return f"net={net.name!r} was not made by load_model, so that no file can say how to make it again. {OWN}."
    objects = [(r["do"], each) for r in _surgery(net, net.base) for each in r.get("objects", {}).items()]
    if objects:
        do, given = objects[0][0], "=".join(objects[0][1])
        return f"net={net.name!r}: its surgery {do} was given {given}, which no file can hold. {OWN}."
    return ""


def _surgery(net: Network, base: Base) -> tuple[dict[str, Any], ...]:
    """What was done to a network since `load_model` made it."""
    return surgeries(net)[base.operated :]


def _config(net: Network, classes: Sequence[str], by: str) -> Config:
    assert net.base
    return Config(
        written_by=by,
        name=net.name,
        base=net.base,
        surgery=_surgery(net, net.base),
        preprocessing=net.preprocessing,
        input_size=net.input_size,
        classes=tuple(classes or net.classes),
        drawn=net.drawn,
        partial=net.partial,
        channels_last=any(map(_is_channels_last, net.module.parameters())),
        layers=architecture(net.module),
        fingerprint=fingerprint(net.module),
    )


def _is_channels_last(p: Tensor) -> bool:
    return p.ndim == 4 and p.is_contiguous(memory_format=torch.channels_last) and not p.is_contiguous()


def _check_comes_back(net: Network, config: Config) -> None:
    """Make the network again without its file, and compare.

    Raises:
        InputError: if it is another one.
    """
    try:
        again = config.network({name: t.detach().cpu() for name, t in net.module.state_dict().items()})
    except InputError as error:
        raise InputError(
            f"net={net.name!r} cannot be saved, since load_model and its surgery make another network: {error} If it "
            f"was changed by hand: {OWN[0].lower()}{OWN[1:]}."
        ) from error
    if not _answers_alike(net, again):
        raise InputError(
            f"net={net.name!r} cannot be saved: its layers and weights are those that load_model and its surgery make, "
            f"and its scores are not. Remove its hooks, or what is random in evaluation mode. {OWN}."
        )


def _answers_alike(net: Network, again: Network) -> bool:
    """Whether two networks give the same scores for a picture, up to rounding."""
    again.module.to(next((p.device for p in net.module.parameters()), torch.device("cpu")))
    picture = torch.rand(1, *expected_input_size(net), generator=torch.Generator().manual_seed(0))
    try:
        answers, others = (_answers(each, picture) for each in (net, again))
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError):
        return True  # the given one does not run here, on this size or in its precision
    return len(answers) == len(others) and all(map(_near, answers, others))


def _answers(net: Network, picture: Tensor) -> list[Tensor]:
    with evaluating(net.module):
        return [t for t in tree_leaves(net.module(net.prepared(picture))) if isinstance(t, Tensor)]


def _near(a: Tensor, b: Tensor) -> bool:
    scale = 1e-3 * float(a.abs().max()) if a.numel() else 0.0
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=1e-3, atol=scale, equal_nan=True)
