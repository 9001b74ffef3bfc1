"""The study of the padding pattern: its controls, cells, resuming, refusals."""

import pytest

import whatwhere as ww
from small_classifier import small_classifier as network
from small_engine import Elsewhere
from whatwhere.errors import InputError
from whatwhere.hold.studies.pattern import Pattern, pattern
from whatwhere.hold.studies.pattern_result import PatternResult

FEW = {"input_size": 8, "margin": 4, "pictures": 12, "paddings": ("circular",)}


def run(net, data, out=None, how=(), **options) -> PatternResult:
    return Pattern(net, data, **{**FEW, **options}).run(out, quiet=True, **dict(how))


def test_the_pattern_of_padding_and_its_controls(data, tmp_path):
    found = Pattern(network(), data, input_size=8, margin=4, pictures=12).run(tmp_path, quiet=True)
    networks = list(dict.fromkeys(r.network for r in found.rows))
    assert networks == ["network", "untrained", "padding circular", "padding reflect", "padding replicate"]
    first = next(r for r in found.rows if r.network == "network")
    assert first.by_border[0] > 0
    assert first.by_border[2] == 0  # a 3 x 3 convolution reaches one pixel
    assert PatternResult.load(tmp_path).rows == found.rows
    assert "SNR untrained" in (tmp_path / "table.csv").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pattern")


@pytest.fixture(scope="module")
def result(data, folder):
    return run(network(), data, folder)


def test_finished_networks_are_not_measured_again(data, folder, result, monkeypatch):
    assert len(list((folder / "cells").iterdir())) == 3
    monkeypatch.setattr("whatwhere.hold.studies.pattern_plan.padding_pattern", None)
    assert run(network(), data, folder).rows == result.rows
    assert run(network(), data, folder, batch_size=5).rows == result.rows  # a smaller one after a lack of memory


def test_controls_may_be_added(data, folder, result):
    before = {f.name: f.stat().st_mtime_ns for f in (folder / "cells").iterdir()}
    more = run(network(), data, folder, paddings=("circular", "reflect"))
    after = {f.name: f.stat().st_mtime_ns for f in (folder / "cells").iterdir()}
    assert before.items() <= after.items()
    assert len(after) == 4
    assert more.rows[: len(result.rows)] == result.rows


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"margin": 8}, "settings"),
        ({"pictures": 11}, "data"),
        ({"sites": "3"}, "settings"),
        ({"net": network(seed=1)}, "weights"),
        ({"net": ww.hold.with_padding(network(), "reflect")}, "layers"),
    ],
)
def test_another_measurement_in_the_same_folder_is_refused(data, folder, result, other, message):
    options = {**other}
    with pytest.raises(InputError, match=rf"another study[\s\S]*{message}: "):
        run(options.pop("net", network()), data, folder, **options)


NAMED = {"classes": 10, "width": 0.125, "sites": ("features.0",), "pictures": 6, "input_size": 32, "margin": 16}


@pytest.mark.slow
def test_another_process_would_find_the_same(tmp_path):
    here = run("cifar/vgg11", "digits", tmp_path / "here", **NAMED)
    there = run("cifar/vgg11", "digits", tmp_path / "there", how={"engine": Elsewhere()}, **NAMED)
    assert there.rows == here.rows
    cells = [sorted(f.name for f in (tmp_path / side / "cells").iterdir()) for side in ("here", "there")]
    assert cells[0] == cells[1]
    assert any("random weights" in n for n in here.notes)


def test_a_fold_runs_nothing_and_reports_what_is_missing(data, folder, result):
    count = len(list((folder / "cells").iterdir()))
    more = run(network(), data, folder, paddings=("circular", "replicate"), how={"fold_only": True})
    assert len(list((folder / "cells").iterdir())) == count
    assert more.rows == result.rows
    assert more.notes == ("Not finished: padding replicate.",)


def test_a_fold_without_the_given_network_is_an_error(data, tmp_path):
    (tmp_path / "study.json").write_text("{}")  # begun, and nothing finished
    with pytest.raises(InputError, match="not measured yet"):
        run(network(), data, tmp_path, how={"fold_only": True})


def test_the_convenience_is_the_study(data, result):
    assert pattern(network(), data, quiet=True, **FEW).rows == result.rows


def test_the_table_as_numbers(result):
    frame = result.to_frame()
    assert list(frame["site"]) == ["0", "3"] * 3
    assert frame["snr"][0] == result.rows[0].snr
