"""The tool answers what is known; a fault in what it is built from is seen."""

import torch

from whatwhere.audits import known
from whatwhere.audits.known import known_answers


def test_all_answers_are_right():
    found = known_answers()
    assert [k.right for k in found] == [True] * 4
    assert found[0].found == "loses 0 points"
    assert found[2].found == "SPC 1.00"


def test_a_wrong_answer_is_called_wrong(monkeypatch):
    """A shuffle that does nothing, and columns that are noise."""
    monkeypatch.setattr(known, "_lost_by_shuffling", lambda *_: 0.0)
    assert not known._upper().right
    assert known._brighter().right
    monkeypatch.setattr(known, "_read", lambda _: 0.5)
    assert not known._ramp().right
    assert not known._noise().right


def test_the_networks_are_what_they_are_said_to_be():
    bright = torch.full((1, 3, known.SIZE, known.SIZE), 0.9)
    assert known._net("picture").module(bright).argmax() == 1
    upper = bright.clone()
    upper[:, :, known.SIZE // 2 :] = 0
    net = known._net("upper half").module
    assert (net(upper).argmax(), net(upper.flip(2)).argmax()) == (1, 0)
