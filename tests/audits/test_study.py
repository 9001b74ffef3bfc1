"""Options of an audit: what the command offers is what Python takes."""

from whatwhere.arguments import Docs
from whatwhere.audits.study import Audit


def test_every_option_is_explained_and_the_examples_are_commands():
    docs = Docs.of(Audit)
    assert all(line.startswith("whatwhere audit ") for line in docs.examples)
    assert Audit("m", "d").minutes == 5.0
    assert Audit.usual_out == "audit"


def test_the_classes_are_those_of_the_pictures():
    assert len(Audit("cifar/vgg11", "digits").network_source.net.module(_picture())[0]) == 10


def _picture():
    import torch

    return torch.zeros(1, 3, 32, 32)
