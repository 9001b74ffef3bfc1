"""Fingerprints: by hashlib from the bytes, and what they tell apart."""

import hashlib

import numpy as np
import torch
from torch import nn

from whatwhere.fingerprints import architecture, fingerprint


def small() -> nn.Sequential:
    net = nn.Sequential(nn.Conv2d(1, 1, 1, padding=1), nn.BatchNorm2d(1))
    with torch.no_grad():
        for i, parameter in enumerate(net.parameters()):
            parameter.fill_(i + 0.5)
    return net


def test_it_is_the_hash_of_names_and_values_in_order() -> None:
    one = [(b"0.weight", "<f4", 0.5), (b"0.bias", "<f4", 1.5), (b"1.weight", "<f4", 2.5), (b"1.bias", "<f4", 3.5)]
    buffers = [(b"1.running_mean", "<f4", 0), (b"1.running_var", "<f4", 1), (b"1.num_batches_tracked", "<i8", 0)]

    content = b"".join(name + np.array(value, dtype=kind).tobytes() for name, kind, value in one + buffers)
    assert fingerprint(small()) == hashlib.sha256(content).hexdigest()[:16]


def test_weights_and_buffers_count_and_where_they_lie_does_not() -> None:
    before = fingerprint(small())
    assert fingerprint(small().to(memory_format=torch.channels_last)) == before
    assert fingerprint(small().train()) == before
    for name in small().state_dict():
        net = small()
        with torch.no_grad():
            net.state_dict()[name].add_(1)
        assert fingerprint(net) != before, name


def test_values_that_are_equal_and_not_alike_differ() -> None:
    plus, minus = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        plus.weight.fill_(0.0)
        minus.weight.fill_(-0.0)
    assert fingerprint(plus) != fingerprint(minus)


def test_layers_are_told_apart_by_what_is_in_no_weight() -> None:
    one, reflected = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")
    reflected.load_state_dict(one.state_dict())
    assert fingerprint(one) == fingerprint(reflected)
    assert architecture(one) != architecture(reflected)
    assert architecture(one) == architecture(nn.Conv2d(3, 4, 3, padding=1))
    assert architecture(nn.ReLU()) == hashlib.sha256(b"ReLU()").hexdigest()[:16]
