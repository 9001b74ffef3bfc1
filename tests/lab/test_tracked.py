"""A study that logs its trainings, and what is refused."""

import csv

import pytest

from small_classifier import small_classifier as network
from small_readout import FEW
from whatwhere.errors import InputError
from whatwhere.hold.official import Official
from whatwhere.hold.studies.readout import Readout

OFFICIAL = {"readouts": ["official"], "official": Official(epochs=2, batch_size=8), "untrained": 1, "paddings": []}


def test_every_cell_has_a_log_and_no_number_depends_on_it(digits, tmp_path):
    options = {**FEW, **OFFICIAL, "sites": ["4"], "blanks": []}
    plain = Readout(network(), digits, **options).run(quiet=True)
    logged = Readout(network(), digits, **options).run(tmp_path, quiet=True, log="csv")
    assert [r.spc.mean for r in logged.rows] == [r.spc.mean for r in plain.rows]
    folders = sorted((tmp_path / "logs").iterdir())
    assert [f.name.rsplit("_", 1)[0] for f in folders] == ["network", "untrained_seed_0"]
    for folder in folders:
        with open(folder / "metrics.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [r["step"] for r in rows] == ["1", "2"]
        assert set(rows[0]) == {"step", "loss 4 1x1", "loss rgb 1x1"}


def test_a_study_that_trains_nothing_has_nothing_to_log(digits, tmp_path):
    with pytest.raises(InputError, match="log='csv': this study trains nothing that is logged"):
        Readout(network(), digits, **FEW).run(tmp_path, quiet=True, log="csv")
    with pytest.raises(InputError, match="log='paper'"):
        Readout(network(), digits, **FEW, **OFFICIAL).run(tmp_path, quiet=True, log="paper")
    assert not (tmp_path / "study.json").exists()
