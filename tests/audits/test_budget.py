"""What fits: against a count of forward passes by hand."""

import time
from types import SimpleNamespace

import pytest

import whatwhere as ww
from small_audit import network, pictures
from whatwhere.audits.budget import BATCH, DRAWS, LEAST, SHARES, SHUFFLED, Budget, Speed, speed_of, spread
from whatwhere.data import Split
from whatwhere.data.sources import Memory


def budget(seconds: float) -> Budget:
    table = ww.sites(network(), input_size=(3, 8, 8))
    return Budget(Speed(0.01, 0.002, table.total_flops), seconds, table, table.cuts)


def test_sites_are_spread_and_end_with_the_last():
    sites = [SimpleNamespace(name=str(i)) for i in range(10)]
    assert [s.name for s in spread(sites, 3)] == ["2", "6", "9"]
    assert spread(sites, 10) == sites
    assert spread(sites, 20) == sites


def test_the_curve_gets_as_many_pictures_as_its_passes_leave_time_for():
    made = budget(100.0)
    before = [s.flops_before / made.speed.flops for s in made.places]
    passes = 1 + sum((1 - b) * (DRAWS + 1) for b in before) + sum(before)
    chosen = made.need(10_000, collapse=True, reach="from")
    assert chosen["limit"] == int(SHARES["need"] * 100 / (0.002 + SHUFFLED * passes * 0.01))
    assert chosen["sites"] == [s.name for s in made.places]
    assert made.need(100, collapse=True, reach="from")["limit"] == 100
    assert made.need(10_000, collapse=False, reach=1)["limit"] > chosen["limit"]


@pytest.mark.parametrize("seconds", [0.01, 10.0, 1000.0])
def test_less_time_never_means_more_and_some_pictures_stay(seconds):
    less, more = budget(seconds), budget(2 * seconds)
    for a, b in ((less.hold(500, 14), more.hold(500, 14)), (less.fields(500), more.fields(500))):
        assert a["pictures"] <= b["pictures"]
        assert a["pictures"] >= 4
    assert less.patches(500, (2, 4))["limit"] >= LEAST
    chosen = less.hold(500, 14)
    assert 0 < chosen["test_pictures"] <= chosen["pictures"] <= 500


def test_a_read_out_of_a_quick_network_does_not_take_all_there_is():
    """Its own time is nothing, but maps are compared picture by picture."""
    assert budget(10_000.0).hold(100_000, 14) == {
        "sites": ["0", "2", "4"],
        "pictures": 600,
        "test_pictures": 200,
        "size": 14,
    }


def test_the_shares_leave_time_for_what_is_fixed():
    assert sum(SHARES.values()) < 1


def test_the_speed_is_of_seconds_a_picture():
    net, data = network(), pictures(8)
    speed = speed_of(net, data.test, ww.sites(net))
    assert 0 < speed.forward < 1
    assert 0 < speed.serve < 1
    assert speed.flops == ww.sites(net).total_flops


def test_a_quick_network_is_timed_on_more_pictures_and_a_slow_one_is_not():
    seen: list[int] = []
    net, data = network(), pictures(200)
    net.module.register_forward_hook(lambda _, args, __: seen.append(len(args[0])))
    speed_of(net, data.test, ww.sites(network()))
    assert seen == [4, 4] * 2 + [BATCH] * 6
    seen.clear()
    net.module.register_forward_hook(lambda *_: time.sleep(0.05))
    speed_of(net, data.test, ww.sites(network()))
    assert seen == [4, 4] * 2


@pytest.mark.parametrize(("pictures", "batch"), [(24, 3), (64, 8), (10_000, BATCH), (5, 2)])
def test_a_draw_is_shared_by_few_pictures(pictures, batch):
    assert Budget.batch(pictures) == batch


def test_reading_is_timed_the_first_time_and_a_pass_the_second():
    """A source that takes its time, and a network whose first pass does: on a clock that they move."""
    net, data, now = network(), pictures(8), [0.0]
    seen: list[int] = []

    class Slow(Memory):
        def read(self, rows):
            now[0] += 0.5 * len(rows)
            return super().read(rows)

    def ran(*_):
        seen.append(1)
        now[0] += 40.0 if len(seen) <= 2 else 0.25 * 4

    split = Split("test", Slow(data.test.source.images), data.test.labels, data.test.classes)
    net.module.register_forward_hook(ran)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "perf_counter", lambda: now[0])
        speed = speed_of(net, split, ww.sites(network()))
    assert len(seen) == 4  # two batches, twice
    assert speed.forward == 0.25
    assert 0.5 <= speed.serve < 1  # one picture is read once more, for its shape
