"""The pictures of the read-out: divided without overlap, and blank ones."""

import torch

import whatwhere as ww
from whatwhere.data import Data
from whatwhere.hold.studies.pictures import blank, pictures_of


def test_pictures_are_divided_without_overlap(data):
    alone = Data("one", {"test": data.test})
    p = pictures_of(alone, None, 1000, 1000, seed=0)
    rows = [r for split in (p.fit, p.held_out, p.test) for r in split.source.rows]
    assert sorted(rows) == list(range(len(data.test)))
    both = pictures_of(data, None, 50, 10, seed=0)
    assert (len(both.fit), len(both.held_out), len(both.test)) == (40, 10, 10)
    assert both.fit.source.source is data.train.source
    assert both.test.source.source is data.test.source


def test_blank_pictures():
    prep = ww.Preprocessing(mean=(0.5,), std=(0.25,))
    assert blank("black", prep, (1, 4, 4), 0).unique().tolist() == [-2.0]
    assert blank("white", prep, (1, 4, 4), 0).unique().tolist() == [2.0]
    noise = blank("noise", prep, (1, 4, 4), 0)
    assert noise.shape == (20, 1, 4, 4)
    assert torch.equal(noise, blank("noise", prep, (1, 4, 4), 0))
