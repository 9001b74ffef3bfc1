"""The worker of the read-out: what it measures, and how many pictures its progress counts."""

import json
import pickle

import pytest
import torch

from small_classifier import small_classifier
from small_finished import finished
from small_readout import FEW
from whatwhere.hold.official import Official
from whatwhere.hold.studies import readout_worker as module
from whatwhere.hold.studies.readout import Readout
from whatwhere.hold.studies.readout_worker import _passes
from whatwhere.lab.study import Run


@pytest.fixture
def plan(data):
    return Readout(small_classifier(seed=5), data, untrained=1, paddings=["circular"], **FEW).planned()


def test_it_reads_out_what_the_plan_says(plan):
    worker = plan.worker(Run(device="cpu"))
    assert json.loads(worker.how) == json.loads(json.dumps(plan.reading.describe()))
    assert worker.reading.pictures.describe() == plan.reading.pictures.describe()
    assert worker.net.name == "small"


def test_each_cell_measures_its_own_network_and_controls_are_of_the_given_one_alone(plan, monkeypatch):
    seen = []

    def measure(net, reading, *, control, on_batch):
        seen.append((net.module[0].padding_mode, net.module[0].weight.clone(), control))
        return {"rows": [], "maps": {}, "notes": []}

    monkeypatch.setattr(module, "measure", measure)
    worker = plan.worker(Run(device="cpu"))
    for cell in plan.cells(finished()):
        assert worker(cell.config) == {"rows": [], "maps": {}, "notes": []}
    assert [(mode, control) for mode, _, control in seen] == [("zeros", True), ("zeros", False), ("circular", False)]
    given, fresh, padded = (weight for _, weight, _ in seen)
    assert torch.equal(given, padded)
    assert not torch.equal(given, fresh)


def test_pictures_pass_once_for_the_closed_form_and_once_an_epoch_for_the_other(data):
    how = {**FEW, "readouts": ["ridge", "official"], "official": Official(epochs=3), "untrained": 0}
    reading = Readout(small_classifier(), data, **how).planned().reading
    assert len(reading.pictures.fit) + len(reading.pictures.held_out) == 20
    assert _passes(reading) == (1 + 3) * 20


def test_named_networks_are_sent_by_name():
    worker = Readout("cifar/vgg11", "digits", classes=10, width=0.125, **FEW).planned().worker(Run(device="cpu"))
    assert len(pickle.dumps(worker)) < 2000
