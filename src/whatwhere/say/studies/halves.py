"""Scenes with a split of their own for thresholds: a lone held-out split is halved."""

from __future__ import annotations

from dataclasses import replace

import torch

from whatwhere.data.scenes import Scenes
from whatwhere.errors import InputError


def apart(scenes: Scenes) -> Scenes:
    """Scenes of which no test picture sets a threshold: the groups of a lone held-out split are halved.

    Raises:
        InputError: if that split is one group.
    """
    held = scenes.validation
    if scenes.test is not held:
        return scenes
    groups = held.groups.unique()
    first = torch.isin(held.groups, groups[: len(groups) // 2])
    if not first.any():
        raise InputError(f"scenes {scenes.name!r} have no test split, and {held.name!r} is one group; add test/.")
    parts = {"validation": held.only(first.nonzero()[:, 0]), "test": held.only((~first).nonzero()[:, 0])}
    return replace(scenes, name=f"{scenes.name} ({held.name} halved)", splits={"train": scenes.train, **parts})
