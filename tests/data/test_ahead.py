import threading
import time

import pytest

from whatwhere import devices
from whatwhere.data import ahead as ahead_file
from whatwhere.data.ahead import ahead, workers


def test_results_come_in_the_order_of_the_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead_file, "workers", lambda: 4)

    def slow_first(n: int) -> int:
        time.sleep(0.02 if n % 4 == 0 else 0)
        return n * n

    assert list(ahead(slow_first, range(20))) == [n * n for n in range(20)]
    assert list(ahead(slow_first, ())) == []


def test_tasks_are_taken_in_the_readers_thread_and_only_a_few_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead_file, "workers", lambda: 3)
    taken, threads = [0], set()

    def tasks():
        for n in range(100):
            taken[0] += 1
            threads.add(threading.get_ident())
            yield n

    results = ahead(lambda n: n, tasks())
    for n in range(50):
        assert next(results) == n
        assert taken[0] <= n + 1 + 2 * 3 + 1
    results.close()
    assert taken[0] < 70
    assert threads == {threading.get_ident()}


def test_an_error_reaches_the_reader_at_its_place() -> None:
    results = ahead(lambda n: 1 / (n - 3), range(10))
    assert [next(results) for _ in range(3)] == [1 / -3, 1 / -2, -1.0]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_a_worker_for_each_core_at_most_sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices.os, "sched_getaffinity", lambda pid: set(range(3)), raising=False)
    assert workers() == 3
    monkeypatch.setattr(devices.os, "sched_getaffinity", lambda pid: set(range(300)), raising=False)
    assert workers() == ahead_file.MOST == 16
