"""The plan of the cost: one cell, and what would make latencies incomparable."""

import pytest
from torch import nn

import whatwhere as ww
from small_finished import finished
from whatwhere.errors import InputError
from whatwhere.use import Cost
from whatwhere.use.studies.cost_plan import NOTES, CostWorker, seconds_of

SMALL = {"width": 0.5, "batch": 2, "rounds": 2}
MODEL = ("cifar/resnet20", "digits")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"methods": ("ms_saar",)}, "'ms_saar' matches nothing"),
        ({"rounds": 0}, "rounds=0"),
        ({"batch": 0}, "batch=0"),
    ],
)
def test_what_is_wrong_is_refused(wrong, message, tmp_path):
    with pytest.raises(InputError, match=message):
        Cost(*MODEL, **wrong).run(tmp_path)
    assert not list(tmp_path.iterdir())


def plan(**options):
    return Cost(*MODEL, **{**SMALL, **options}).planned()


def test_all_methods_of_a_call_are_one_cell_the_plain_network_among_them():
    made = plan(methods=("se", "eca"))
    (cell,) = made.cells(finished())
    assert cell.label == "none, se, eca"
    assert cell.config == {
        "model": "cifar/resnet20",
        "options": {"classes": 10, "width": 0.5},
        "size": [3, 32, 32],
        "do": "cost",
        "methods": ["none", "se", "eca"],
        "batch": 2,
        "rounds": 2,
    }
    assert made.shared() == {name: cell.config[name] for name in ("model", "options", "size")}
    assert isinstance(made.worker(ww.Run()), CostWorker)


@pytest.mark.parametrize(
    ("how", "message"),
    [({"workers": 2}, "workers=2"), ({"device": "cuda"}, "device='cuda'"), ({"engine": 1}, "engine=1")],
)
def test_what_makes_latencies_incomparable_is_refused(how, message):
    with pytest.raises(InputError, match=message):
        plan(methods=("se",)).check(ww.Run(**how))
    plan(methods=("se",)).check(ww.Run(workers=1, device="cpu"))


def test_a_fold_is_of_the_measurement_that_was_asked_for():
    made = plan(methods=("se",))
    plain = {"parameters": 10, "flops": 20, "latency_ms": 1.0, "batch": 2, "kept_bytes": 30}
    found = {"costs": {"none": plain, "se": {**plain, "flops": 21}}, "slower": {"none": 1.0, "se": 1.5}, "hardware": {}}
    result = made.fold(finished((made.cell, found)))
    assert (result["se"].flops, result.slower["se"]) == (21, 1.5)
    assert result.settings["methods"] == ["none", "se"]
    assert result.notes == NOTES
    with pytest.raises(InputError, match="not measured yet"):
        made.fold(finished())


def test_networks_take_turns():
    seen = []
    nets = {name: nn.Conv2d(3, 1, 1) for name in ("a", "b")}
    for name, net in nets.items():
        net.register_forward_hook(lambda m, args, out, name=name: seen.append((name, tuple(args[0].shape))))
    took = seconds_of(nets, (3, 4, 5), 2, 3)
    assert seen == [("a", (2, 3, 4, 5)), ("b", (2, 3, 4, 5))] * 3
    assert {name: len(t) for name, t in took.items()} == {"a": 3, "b": 3}
    assert all((t > 0).all() for t in took.values())
