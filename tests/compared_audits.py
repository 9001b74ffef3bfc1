"""Small audits in folders, once for all tests of the comparison: a network, itself again, a broken one, other pictures."""

from __future__ import annotations

import shutil
from pathlib import Path
from unittest.mock import patch

import torch

import whatwhere as ww
from small_audit import network, pictures
from whatwhere.data import Data, Split
from whatwhere.data.sources import Memory

NEED = ("check", "patches", "hold", "fields", "use", "say")
QUICK = {"minutes": 5, "quiet": True}  # enough for all pictures, whatever the machine is busy with


def seeing() -> ww.Network:
    """A network that says "b" of half of the pictures."""
    net, data = network(), pictures()
    with torch.no_grad():
        scores = net.module(net.prepared(data.test.source.images))
        net.module[-1].bias[0] += (scores[:, 1] - scores[:, 0]).median()
    return net


def broken() -> ww.Network:
    """The same, but the answer is always the first class: there is nothing that it could lose."""
    net = seeing()
    with torch.no_grad():
        net.module[-1].weight.zero_()
        net.module[-1].bias.copy_(torch.tensor([1.0, 0.0]))
    return net


def data() -> Data:
    """Pictures whose labels are what `seeing` says of them: it is always right."""
    images, net = pictures().test.source.images, seeing()
    with torch.no_grad():
        said = net.module(net.prepared(images)).argmax(1)
    return Data("said", {"test": Split("test", Memory(images), said, ["a", "b"])})


def others() -> Data:
    """Other pictures: the last ones of these."""
    all_, rows = data().test, torch.arange(8, 40)
    return Data("others", {"test": Split("test", Memory(all_.source.images[rows]), all_.labels[rows], ["a", "b"])})


def write(folder: Path) -> dict[str, Path]:
    """The audits, by name: a network, the same again, broken weights, and those on other pictures."""
    with patch("whatwhere.lab.result.write_report"):  # pages and figures take most of the time
        ww.audit(seeing(), data(), out=folder / "net", without=("check", "use"), **QUICK)
        ww.audit(broken(), data(), out=folder / "broken", without=("check", "use", "patches"), **QUICK)
        ww.audit(broken(), others(), out=folder / "others", without=NEED, **QUICK)
    shutil.copytree(folder / "net", folder / "again")
    return {name: folder / name for name in ("net", "again", "broken", "others")}
