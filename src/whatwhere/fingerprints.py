"""Fingerprints of networks: what their layers are, and what their weights are."""

from __future__ import annotations

import hashlib

import torch


def architecture(module: torch.nn.Module) -> str:
    """16 hexadecimal digits of what the network's layers are: padding, strides and activations are in no weight."""
    return hashlib.sha256(repr(module).encode()).hexdigest()[:16]


def fingerprint(module: torch.nn.Module) -> str:
    """16 hexadecimal digits of the network's weights and buffers."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
