"""One cell of the joint study: both instruments on one network."""

import whatwhere as ww
from small_joint import LOOK, SITES
from whatwhere.fingerprints import fingerprint
from whatwhere.lab.cells import Cell
from whatwhere.use.studies import joint_cell
from whatwhere.use.studies.joint_cell import JointWorker, Look


def test_a_gate_that_does_nothing_changes_neither_answer():
    """The control of both instruments: the same function must hold and need the same."""
    plain = ww.load_model("cifar/resnet20", classes=10, width=0.5, seed=0)
    idle = ww.use.recalibrate(plain, "ms_sar", identity_init=True)
    data, look = ww.load_data("digits"), Look(tuple(SITES), ("H", "G"), 12, 5, 2, 20)
    assert joint_cell.held(idle, data, look) == joint_cell.held(plain, data, look)
    assert joint_cell.kept(idle, data, look) == joint_cell.kept(plain, data, look)


def test_a_look_survives_its_cell():
    assert Look.from_dict(Cell({"look": LOOK.to_dict()}).config["look"]) == LOOK


def test_a_cell_looks_at_the_trained_network_and_at_the_same_one_before_its_training(monkeypatch):
    config = {"model": "cifar/resnet20", "options": {"classes": 10, "width": 0.25}, "seed": 3, "method": "none"}
    fresh = ww.load_model("cifar/resnet20", classes=10, width=0.25, seed=3)
    trained = ww.load_model("cifar/resnet20", classes=10, width=0.25, seed=4)

    class Training:
        data, device = "pictures", "cpu"

        def network(self, asked):
            assert asked == {**config, "settings": {}}
            return trained

    def held(net, data, look, device):
        assert (data, look, device) == ("pictures", LOOK, "cpu")
        return fingerprint(net.module)

    monkeypatch.setattr(joint_cell, "held", held)
    monkeypatch.setattr(joint_cell, "kept", lambda net, *_: net is trained)
    found = JointWorker(Training())({"network": {**config, "settings": {}}, "look": LOOK.to_dict()})
    assert found == {
        "held": fingerprint(trained.module),
        "untrained": fingerprint(fresh.module),
        "kept": True,
    }
