"""A conclusion says what was tested, on how many pictures, what so many can resolve, and against which control."""

import re
from dataclasses import replace

import pytest

import whatwhere as ww
from whatwhere.intervals import Estimate
from whatwhere.need.studies.recommend import at_chance, check_within, recommend
from whatwhere.need.studies.result import Point
from whatwhere.scores.against_intact import KL
from whatwhere.scores.classes import ACCURACY
from whatwhere.scores.score import Score


def point(site: str, drop: float, half: float, n: int = 50, seeds: int = 0, method: str = "gap_fc") -> Point:
    accuracy = Estimate(0.5, 0.4, 0.6, 0.0, n, max(1, seeds))
    lost = Estimate(drop, drop - half, drop + half, 0.0, n, max(1, seeds))
    return Point(method, site, 0.31, accuracy, lost, values=(0.5,) * seeds)


def said(*points: Point, retrained: bool = False, within: float = 0.01, score: Score = ACCURACY) -> str:
    def built(site: str) -> ww.Network:
        raise ww.InputError("it cannot be collapsed.")

    net = ww.load_model("cifar/vgg11", classes=3, width=1 / 16)
    recover = lambda p: f" RECOVER {p.site}"  # noqa: E731
    kept = recommend(points, within, net, built, retrained=retrained, recover=recover, score=score)
    return kept.text


def test_a_gain_that_fifty_pictures_cannot_tell_is_no_cost_to_recover_from() -> None:
    text = said(point("deep", 0.4, 0.3), point("late", -0.02, 0.079))
    assert "from late on, changes accuracy by +2.00 points (95 % interval -5.90 to +9.90) on 50 pictures" in text
    assert "against the intact network on the same, without retraining" in text
    assert "Differences under 7.9 points are not resolved by so few pictures: 1.0 points take about 3,100." in text
    assert "RECOVER" not in text
    assert pytest.approx(3120.5) == 50 * 7.9**2


def test_a_loss_that_is_shown_says_what_may_be_done() -> None:
    text = said(point("deep", 0.4, 0.03, n=450), point("late", 0.12, 0.02, n=450))
    assert text.startswith(
        "No removal by GAP+FC is sure to stay within a loss of 1.0 points: even the mildest, from late"
    )
    assert "-12.00 points (95 % interval -14.00 to -10.00) on 450 pictures" in text
    assert text.endswith("RECOVER late")
    assert "not resolved" not in text


def test_what_is_undecided_is_not_called_lost_although_another_place_is() -> None:
    text = said(point("lost", 0.03, 0.01), point("open", 0.02, 0.04))
    assert "the mildest, from open on" in text
    assert "not resolved" in text


@pytest.mark.parametrize(
    ("seeds", "basis"),
    [
        (3, "over 3 seeds, against intact networks trained alike with the same"),
        (1, "on 50 pictures with one seed, against an intact network trained alike"),
    ],
)
def test_trained_networks_are_compared_with_intact_ones_trained_alike(seeds: int, basis: str) -> None:
    held = said(point("late", 0.001, 0.004, seeds=seeds), retrained=True)
    assert basis in held
    assert held.startswith("Within a loss of 1.0 points, the last 31 % of the convolutions need no spatial information")
    undecided = said(point("late", 0.001, 0.04, seeds=seeds), retrained=True)
    assert ("more seeds narrow the interval" in undecided) == (seeds > 1)


def test_no_number_of_pictures_shows_a_loss_of_nothing() -> None:
    assert said(point("late", 0.0, 0.05), within=0.0).endswith("not resolved by so few pictures.")


def test_chance_is_what_naming_the_commonest_class_gives() -> None:
    text = at_chance(Estimate(0.7, 0.5, 0.8, 0.0, 40, 1), 0.75)
    assert "70.0 % [50.0, 80.0] on 40 pictures, is not above chance (75.0 %, the commonest class)" in text


def test_the_advice_on_a_curve_can_be_followed(trained, digits) -> None:
    """Training anew takes names; a module in Python is fine-tuned."""
    found = ww.need.curve(trained, digits, methods="gap_fc", sites="features.11", quiet=True).conclusion
    assert "whatwhere need trained" not in found
    assert "Fine-tuning may recover some of it: ww.fit of ww.need.collapse(net, 'features.11')." in found
    net = replace(trained, module=ww.need.collapse(trained, "features.11").module)
    assert net.module.surgery.site == "features.11"
    assert re.search(r"-\d+\.\d\d points \(95 % interval", found)


def test_a_score_of_which_less_is_better_rises_and_is_allowed_its_own_unit() -> None:
    """A divergence that grew by 0.02 nats [0.01, 0.03]."""
    of = "divergence from the intact network's class probabilities, in nats,"
    change = f"{of} by +0.0200 (95 % interval +0.0100 to +0.0300) on 50 pictures"
    held = said(point("late", 0.02, 0.01), within=0.05, score=KL)
    assert held.startswith("Within a rise of 0.050, the last 31 % of the convolutions need no spatial information")
    assert f"GAP+FC from late on changes {change}" in held
    lost = said(point("late", 0.02, 0.01), within=0.001, score=KL)
    assert lost.startswith("No removal by GAP+FC is sure to stay within a rise of 0.001: even the mildest")
    check_within(7.5, KL)
    for wrong in (-1, float("inf"), float("nan"), "x"):
        with pytest.raises(ww.InputError, match="give a number from 0, in the unit of divergence"):
            check_within(wrong, KL)


@pytest.mark.parametrize(("within", "reach"), [(None, "from"), (0.01, 1)])
def test_an_intact_network_at_chance_is_said_where_nothing_is_recommended(digits, within, reach) -> None:
    net = ww.load_model("cifar/vgg11", classes=10, width=0.07)
    curve = ww.need.curve(net, digits, methods="mean", within=within, reach=reach, sites="features.11", quiet=True)
    assert curve.recommendation is None
    assert any("is not above chance (10" in note for note in curve.notes)
