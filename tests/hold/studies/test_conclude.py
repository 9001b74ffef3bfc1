"""The conclusion: one number with its interval and control, and no claim that its interval does not carry."""

from whatwhere.hold.studies.conclude import conclude
from whatwhere.hold.studies.readout_result import Row
from whatwhere.intervals import Estimate


def row(network="network", target="H", site="all", spc=0.5, above=None, repeats=1):
    estimate = Estimate(spc, spc - 0.02, spc + 0.02, 0.1, 200, repeats)
    difference = None if above is None else Estimate(above, above - 0.05, above + 0.05, 0.1, 200, 3)
    return Row(
        network,
        "ridge",
        site,
        0.5,
        3,
        target,
        "pictures",
        estimate,
        estimate,
        0,
        0.25,
        above_untrained=difference,
        size=224,
    )


def test_it_says_one_number_with_interval_size_pictures_and_control():
    rows = [row(above=0.1), row(site="f1", spc=0.2, above=-0.3), row("untrained", spc=0.4, repeats=3)]
    assert conclude(rows) == (
        "H is read out of all sites together with SPC 0.50 [0.48, 0.52] at 224 px (3x3 ridge read-out, 200 pictures), "
        "more than the 3 untrained networks' 0.40."
    )


def test_a_difference_whose_interval_holds_zero_is_no_difference():
    rows = [row(above=0.03), row("untrained", spc=0.47, repeats=3)]
    assert "neither clearly more nor clearly less than the 3 untrained networks' 0.47" in conclude(rows)
    rows = [row(above=-0.1), row("untrained", spc=0.6, repeats=3)]
    assert "less than the 3 untrained networks' 0.60" in conclude(rows)


def test_the_other_targets_are_named_by_their_verdict():
    rows = [row(above=0.1), row("untrained", repeats=3)]
    for target, above in (("V", 0.2), ("G", 0.0), ("HS", -0.2)):
        rows += [row(target=target, above=above), row("untrained", target=target, repeats=3)]
    assert conclude(rows).endswith(
        "At their best sites: more than untrained for V; less than untrained for HS; "
        "neither clearly more nor clearly less than untrained for G."
    )


def test_without_controls_nothing_is_claimed():
    assert "may be the architecture alone" in conclude([row()])
    assert "too few for an interval" in conclude([row(), row("untrained", spc=0.4)])
    assert conclude([row(site="rgb")]).startswith("H is read out of the raw input")
