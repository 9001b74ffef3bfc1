"""Rows against loops, and Fieller's interval against a scan of all shares."""

import numpy as np
import pytest

from whatwhere.intervals import over_networks
from whatwhere.lab.cells import Cell, Store
from whatwhere.lab.packed import pack
from whatwhere.lab.study import Finished
from whatwhere.need.studies.recover_fold import Fold, share_of

RATES = {(None, None): 0.8, ("a", None): 0.3, (None, 0): 0.85, (None, 1): 0.8, ("a", 0): 0.7, ("a", 1): 0.75}
N = 200


def hits(site, seed):
    draws = np.random.default_rng([len(site or ""), 9 if seed is None else seed])
    return draws.random(N) < RATES[site, seed]


@pytest.fixture
def fold(tmp_path):
    store, contents = Store(tmp_path, {}), {}
    for site, seed in RATES:
        config = {"do": "test" if seed is None else "tune", "site": site}
        config |= {} if seed is None else {"seed": seed}
        result = {"hits": pack(hits(site, seed).astype(np.uint8)), "n": N, "weights": f"{site} {seed}"}
        contents[Cell(config).key] = (config, result)
    return Fold(Finished(store, contents), {"a": 0.3}, (0, 1))


def agrees(found, inside) -> bool:
    """Whether an interval holds exactly the shares that are inside, of many around it."""
    reach = found.high - found.low
    shares = np.linspace(found.low - reach, found.high + reach, 401)
    return [found.low <= s <= found.high for s in shares] == [inside(s) for s in shares]


def over(*values) -> bool:
    """Whether the house's interval of a mean over seeds and pictures holds 0."""
    e = over_networks(np.stack(values), counted=True, low=-np.inf, high=np.inf)
    return e.low <= 0 <= e.high


def test_rows_are_means_over_seeds_and_paired(fold):
    rows = {r.name: r for r in fold.rows()}
    assert list(rows) == ["intact", "intact, fine-tuned", "a", "a, fine-tuned"]
    for name, site in (("intact", None), ("a", "a")):
        own = sum(hits(site, None)) / N
        assert rows[name].measured["accuracy"].mean == pytest.approx(own)
        tuned = [sum(hits(site, s)) / N for s in (0, 1)]
        assert rows[f"{name}, fine-tuned"].measured["accuracy"].mean == pytest.approx(np.mean(tuned))
        assert rows[f"{name}, fine-tuned"].measured["gained"].mean == pytest.approx(np.mean(tuned) - own)
        below = [sum(hits(None, s)) / N - own for s in (0, 1)]
        assert rows[name].values["below intact fine-tuned"] == pytest.approx(below)
    last = rows["a, fine-tuned"].measured
    gaps = [np.subtract(hits(None, s), hits("a", s), dtype=float) for s in (0, 1)]
    expected = over_networks(np.stack(gaps), counted=True)
    seen = last["below intact fine-tuned"]
    assert (seen.mean, seen.low, seen.high) == pytest.approx((expected.mean, expected.low, expected.high))
    before = sum(hits("a", None)) / N
    lost = np.mean([sum(hits(None, s)) / N for s in (0, 1)]) - before
    assert last["share recovered"].mean == pytest.approx(rows["a, fine-tuned"].measured["gained"].mean / lost)
    assert "below intact fine-tuned" not in rows["intact, fine-tuned"].measured


def test_of_one_seed_intervals_are_over_pictures(fold):
    each = {r.name: r for r in list(fold.each())[2:4]}  # both seeds of a have the row's name
    assert len(list(fold.each())) == 4
    (last,) = each.values()
    gained, lost = (np.subtract(hits(*first), hits("a", None), dtype=float) for first in (("a", 1), (None, 1)))
    expected = over_networks(gained[None], counted=True)
    seen = last.measured["gained"]
    assert (seen.mean, seen.low, seen.high) == pytest.approx((expected.mean, expected.low, expected.high))
    share = last.measured["share recovered"]
    assert agrees(share, lambda s: over(gained - s * lost))
    assert fold.weights() == {"intact, fine-tuned": ["None 0", "None 1"], "a, fine-tuned": ["a 0", "a 1"]}


def test_shares_over_seeds_are_those_that_seeds_and_pictures_do_not_contradict():
    draws = np.random.default_rng(3)
    lost = [np.where(draws.random(500) < 0.5, 1.0, 0.0) for _ in range(4)]
    gained = [np.where(draws.random(500) < 0.4, 1.0, 0.0) for _ in range(4)]
    found = share_of(gained, lost)

    assert agrees(found, lambda s: over(*(g - s * b for g, b in zip(gained, lost, strict=True))))
    assert (found.n, found.repeats) == (500, 4)


def test_everything_back_is_one_with_an_interval_that_is_not_empty():
    lost = np.array([1.0, 0.0] * 50)
    found = share_of([lost], [lost])
    assert found.mean == 1
    assert agrees(found, lambda s: over(lost - s * lost))
    assert found.low < 0.95 < 1.05 < found.high


@pytest.mark.parametrize("lost", [[0.0] * 100, [1.0, -1.0] * 50, [1.0] * 2 + [0.0] * 98, [-1.0] * 100])
def test_a_loss_that_is_not_significant_has_no_share(lost):
    b = np.array(lost)
    assert share_of([np.ones(100)], [b]) is None
    assert over_networks(b[None], counted=True).low <= 0


def test_a_single_picture_says_nothing():
    assert share_of([np.ones(1)], [np.ones(1)]) is None


# Frozen prefixes: each site has a control of its own


def small_hits(*key) -> np.ndarray:
    return np.random.default_rng([len(str(k)) + i for i, k in enumerate(key)]).random(40) < 0.6


FROZEN = [("a", None), ("bb", None), (None, "a"), (None, "bb")]


@pytest.fixture
def frozen(tmp_path):
    store, contents = Store(tmp_path, {}), {}
    records = [({"do": "test", "site": s}, small_hits(s, "as given")) for s in (None, "a", "bb")]
    for site, before in FROZEN:
        config = {"do": "tune", "site": site, "seed": 0, **({} if before is None else {"frozen_before": before})}
        records.append((config, small_hits(site, before, "tuned")))
    for config, right in records:
        where = f"{config['site']} {config.get('frozen_before')}"
        contents[Cell(config).key] = (config, {"hits": pack(right.astype(np.uint8)), "weights": where})
    return Fold(Finished(store, contents), {"a": 0.3, "bb": 0.5}, (0,), frozen=True)


def test_a_frozen_network_is_compared_with_the_control_of_its_own_site(frozen):
    rows = {r.name: r for r in frozen.rows()}
    assert list(rows) == [
        "intact",
        "intact, fine-tuned from a on",
        "intact, fine-tuned from bb on",
        "a",
        "a, fine-tuned",
        "bb",
        "bb, fine-tuned",
    ]
    for site in ("a", "bb"):
        control, own = small_hits(None, site, "tuned"), small_hits(site, None, "tuned")
        assert rows[f"{site}, fine-tuned"].values["below intact fine-tuned"] == (np.mean(control * 1.0 - own),)
        given = np.mean(small_hits(None, "as given") * 1.0 - own)
        assert rows[f"{site}, fine-tuned"].values["below intact as given"] == (given,)
        as_given = np.mean(control * 1.0 - small_hits(site, "as given"))
        assert rows[site].values["below intact fine-tuned"] == (as_given,)
        gained = np.mean(control * 1.0 - small_hits(None, "as given"))
        assert rows[f"intact, fine-tuned from {site} on"].values["gained"] == (gained,)
    assert "below intact fine-tuned" not in rows["intact"].measured  # there is not one control
    assert frozen.weights() == {
        "intact, fine-tuned from a on": ["None a"],
        "intact, fine-tuned from bb on": ["None bb"],
        "a, fine-tuned": ["a None"],
        "bb, fine-tuned": ["bb None"],
    }
    assert [r.name for r in frozen.each()] == list(frozen.weights())


def test_how_far_below_the_intact_network_as_given_is_paired_by_picture(fold):
    rows = {r.name: r for r in fold.rows()}
    seen = rows["a, fine-tuned"].measured["below intact as given"]
    expected = over_networks(
        np.stack([np.subtract(hits(None, None), hits("a", s), dtype=float) for s in (0, 1)]), counted=True
    )
    assert (seen.mean, seen.low, seen.high) == (expected.mean, expected.low, expected.high)
    assert not [n for n in ("intact", "intact, fine-tuned", "a") if "below intact as given" in rows[n].measured]


def test_where_trainings_ended_is_said_of_those_that_could(tmp_path):
    last = {"behind_low": -0.01, "behind": 0.005, "behind_high": 0.02, "held_out": 300, "enough": True}
    results = {"a": [{"loss": 1.0, **last, "enough": False}, last], "bb": [{**last, "enough": False}], None: [{}] * 3}
    contents = {}
    for site, epochs in results.items():
        config = {"do": "tune", "site": site, "seed": 4}
        contents[Cell(config).key] = (config, {"hits": pack(np.ones(4, dtype=np.uint8)), "epochs": epochs})
    found = Fold(Finished(Store(tmp_path, {}), contents), {"a": 0.3, "bb": 0.5}, (4,))
    assert list(found.ends(3)) == [
        "a, seed 4: epoch 2 of 3 was enough: 0.50 points [-1.00, 2.00] below the intact network on 300 held-out pictures.",
        "bb, seed 4: epoch 1 of 3 was not enough: 0.50 points [-1.00, 2.00] below the intact network on 300 held-out "
        "pictures.",
    ]
