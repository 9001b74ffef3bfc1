"""Figures of several panels."""

import numpy as np

from whatwhere.report.figures import Line, rendered
from whatwhere.report.panels import maps_figure, panels_figure


def test_a_label_has_one_colour_in_every_panel_and_one_place_in_the_legend():
    a, b = Line("a", (0.0, 1.0), (0.1, 0.5), (0.0, 0.4), (0.2, 0.6)), Line("b", (0.0, 1.0), (0.3, 0.2))
    panels = {"H": [a, b], "V": [b], "G": [a], "HS": [a]}
    figure, again = (panels_figure(panels, ["rgb", "conv"], title="t", y="SPC") for _ in range(2))
    drawn = [{h.get_label(): h.get_color() for h in at.get_lines()} for at in figure.axes[:2]]
    assert drawn[0]["b"] == drawn[1]["b"] != drawn[0]["a"]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["a", "b"]
    assert not figure.axes[4].axison  # six places, four panels
    assert [t.get_text() for t in figure.axes[3].get_xticklabels()] == ["rgb", "conv"]
    assert rendered(figure, "svg") == rendered(again, "svg")


def test_numbers_have_an_axis_label_instead_of_names():
    figure = panels_figure({"conv": [Line("a", (0.0, 1.0), (1.0, 0.5))]}, (), x="distance")
    assert figure.axes[0].get_xlabel() == "distance"


def test_maps_stand_in_rows_and_an_empty_place_stays_empty():
    rows = {"target": [None, np.eye(4)], "seen": [np.zeros((4, 4, 3), np.uint8), np.eye(4)]}
    figure = maps_figure(rows, ["", "H"], title="t")
    assert [len(at.get_images()) for at in figure.axes] == [0, 1, 1, 1]
    assert figure.axes[2].get_ylabel() == "seen"
    assert figure.axes[1].get_title() == "H"


def test_maps_may_share_what_is_dark_and_light():
    rows = {"low": [np.full((2, 8), 0.2)], "high": [np.full((8, 8), 0.9)]}
    shared, own = maps_figure(rows, [""], limits=(0, 1)), maps_figure(rows, [""])
    assert [at.get_images()[0].get_clim() for at in shared.axes] == [(0, 1), (0, 1)]
    assert own.axes[0].get_images()[0].get_clim() != (0, 1)
    shared.draw_without_rendering()
    heights = [at.get_position().height for at in shared.axes]
    assert heights[0] < 0.4 * heights[1]  # a row is no higher than its maps


def test_a_legend_stays_inside_its_figure():
    lines = [Line(f"a rather long label, number {i}", (0.0, 1.0), (0.1, 0.5)) for i in range(5)]
    figure = panels_figure({"one": lines}, (), width=6.4)
    figure.draw_without_rendering()
    inside, box = figure.bbox, figure.legends[0].get_window_extent()
    assert inside.x0 <= box.x0 < box.x1 <= inside.x1


def test_panels_may_have_vertical_axes_of_their_own():
    a = Line("a", (0.0, 1.0), (0.1, 0.5))
    figure = panels_figure(
        {"hold": [a], "need": [a]}, ["rgb", "conv"], y={"hold": "SPC", "need": "accuracy (%)"}, width=5.0
    )
    assert [at.get_ylabel() for at in figure.axes] == ["SPC", "accuracy (%)"]
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim()
    shared = panels_figure({"H": [a], "V": [a]}, ["rgb", "conv"], y="SPC")
    assert [at.get_ylabel() for at in shared.axes] == ["SPC", ""]
