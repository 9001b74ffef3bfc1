"""Which read-outs are solved which way, and that the way does not matter."""

import pytest

from small_classifier import small_classifier as network
from small_readout import FEW, position
from whatwhere.hold.studies import measure, solving
from whatwhere.hold.studies.readout import Readout
from whatwhere.hold.studies.readout_plan import ReadoutPlan

OPTIONS = {**FEW, "kernels": [3], "untrained": 1, "paddings": ["circular"], "blanks": ["noise"]}


def plan(data, **options):
    return ReadoutPlan(Readout(network(), data, **{**OPTIONS, **options}))


def by(data, **options):
    p = plan(data, **options)
    found = solving.ways(p.reading.groups(p.net)[1], p.reading)
    return [[(k, g.name) for k, g in part] for part in (found.closed, found.iterated, found.all)], found


def test_many_columns_are_iterated_where_their_features_can_be_kept(data, monkeypatch):
    (closed, iterated, _), _ = by(data)
    assert not iterated
    assert {name for _, name in closed} == {"1", "4", "all", "rgb"}
    monkeypatch.setattr(solving, "FEW_COLUMNS", 50)
    (closed, iterated, every), found = by(data, kernels=[1, 3])
    assert iterated == [(3, "4"), (3, "all")]
    assert sorted(closed + iterated) == sorted(every)
    assert [t.name for t in found.taps] == ["4", "1"]
    monkeypatch.setattr(solving, "KEPT", 0)
    (closed, iterated, _), _ = by(data)
    assert (3, "all") in closed
    assert not iterated
    monkeypatch.setattr(solving, "MOST_COLUMNS", 80)
    (closed, _, _), found = by(data)
    assert (3, "all") not in closed
    assert "3x3 ridge read-out of 'all' is left out: 108 columns are more than 80" in found.notes[0]


def test_both_ways_give_the_same_scores(data, monkeypatch):
    closed = position(network(), data, **OPTIONS)
    monkeypatch.setattr(solving, "FEW_COLUMNS", 20)
    iterated = position(network(), data, **OPTIONS)
    assert len(closed.rows) == len(iterated.rows)
    for a, b in zip(closed.rows, iterated.rows, strict=True):
        assert (a.network, a.site, a.target) == (b.network, b.site, b.target)
        assert b.spc.mean == pytest.approx(a.spc.mean, abs=2e-3)
        assert b.mae.mean == pytest.approx(a.mae.mean, abs=1e-3)


def test_what_would_take_a_large_space_is_the_closed_form(data, monkeypatch):
    """Bit for bit, from a second pass over the pictures, which progress does not count."""
    closed = position(network(), data, **OPTIONS)
    monkeypatch.setattr(solving, "FEW_COLUMNS", 20)
    asked = []

    def too_large(*_, tiny, **__):
        asked.append(tiny)

    monkeypatch.setattr(measure, "krylov_readout", too_large)
    assert position(network(), data, **OPTIONS).rows == closed.rows
    assert set(asked) == {False}
    monkeypatch.setattr(solving, "MOST_COLUMNS", 50)
    position(network(), data, **OPTIONS)
    assert True in asked  # of too many columns a large space is asked for


def test_a_folder_says_that_its_read_outs_were_iterated(data, monkeypatch):
    plain = plan(data).shared()["plan"]["measured"]
    monkeypatch.setattr(solving, "FEW_COLUMNS", 20)
    assert plan(data).shared()["plan"]["measured"] == f"{plain}; {solving.ITERATED}"
    assert plan(data, readouts=["official"]).shared()["plan"]["measured"] == plain
