"""Leakage: concept maps altered so that only what a concept *says* is left, or so that it is missing.

Soft concept activations carry more than their concepts: Mahinpei et al. 2021 (arXiv 2106.13314), Margeloiu et al. 2021
(arXiv 2105.04289). Put what these functions give into the rest of the network and see what becomes of its results.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from whatwhere.errors import InputError
from whatwhere.say.checked import finite, within


def binarised(maps: Tensor, threshold: float = 0.5) -> Tensor:
    """Present or absent, nothing between: tests whether results rest on *how much* a concept is there.

    What is lost against the soft maps is either leaked information or graded evidence; a rest of the network trained
    on binarised maps separates the two, since it lacks only what the soft values held in addition.

    Args:
        maps: (N, K, h, w) or (P, K), concept probabilities.
        threshold: present from above it.

    Returns:
        0 or 1, shape and type as `maps`.

    Raises:
        InputError: for a threshold that no probability is above or below, or maps that are not finite.
    """
    within("threshold", threshold, 0, 1)
    finite(maps=maps)
    return (maps > threshold).to(maps.dtype)


def permuted(maps: Tensor, order: Tensor) -> Tensor:
    """Give every concept another one's map: tests whether the rest of the network reads concepts by their names.

    Results that survive do not depend on which concept says what. All information is still there, so that a rest
    trained anew on permuted maps must do as well as before: it is the control.

    Args:
        maps: (N, K, h, w) or (P, K).
        order: (K,) integers; concept k gets the map of concept `order[k]`.

    Raises:
        InputError: if `order` is not a permutation of the K concepts.
    """
    concepts = _concepts(maps)
    order = torch.as_tensor(order)
    if order.is_floating_point() or order.sort().values.tolist() != list(range(concepts)):
        raise InputError(
            f"order: {order.tolist()} is not a permutation of the {concepts} concepts; give torch.randperm(K)."
        )
    return maps[:, order.to(maps.device)]


def dropped(maps: Tensor, k: int, value: float) -> Tensor:
    """Set one concept to a constant: tests what rests on this concept and on no other.

    Args:
        maps: (N, K, h, w) or (P, K).
        k: the concept, from 0.
        value: the constant; the concept's mean over the data keeps the average input of what follows as it was.

    Returns:
        A copy.

    Raises:
        InputError: for an unknown concept, or a value that is not finite.
    """
    within("value", value, -math.inf, math.inf)
    if not isinstance(k, int) or not 0 <= k < _concepts(maps):
        raise InputError(f"k={k}: there are {_concepts(maps)} concepts; give one from 0 to {_concepts(maps) - 1}.")
    rest = maps.clone()
    rest[:, k] = value
    return rest


def _concepts(maps: Tensor) -> int:
    if maps.ndim < 2:
        raise InputError(f"maps: shape {tuple(maps.shape)}; give (N, K, h, w) or (P, K).")
    return maps.shape[1]
