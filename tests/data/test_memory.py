"""How much memory a split may take, of systems whose memory is made up."""

from pathlib import Path

import pytest

from whatwhere.data import memory

GIB = 2**30


def system(
    monkeypatch: pytest.MonkeyPatch, text: str | OSError, pages: tuple[int, int] = (4096, 4 * GIB // 4096)
) -> None:
    """One whose /proc/meminfo says so, with so many pages of so many bytes."""

    def read(self: Path) -> str:
        assert str(self) == "/proc/meminfo"
        if isinstance(text, OSError):
            raise text
        return text

    monkeypatch.setattr(Path, "read_text", read)
    monkeypatch.setattr(
        memory.os, "sysconf", dict(zip(("SC_PAGE_SIZE", "SC_PHYS_PAGES"), pages, strict=True)).__getitem__
    )


def test_what_can_be_freed_counts_in_kibibytes(monkeypatch: pytest.MonkeyPatch) -> None:
    system(monkeypatch, "MemTotal:  9000000 kB\nMemFree:  1000 kB\nMemAvailable:   2097152 kB\nCached: 5 kB\n")
    assert memory.available() == 2 * GIB
    assert memory.memory_budget() == GIB


def test_a_split_never_takes_more_than_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    system(monkeypatch, f"MemAvailable: {100 * 2**20} kB\n")
    assert memory.available() == 100 * GIB
    assert memory.memory_budget() == memory.MEMORY_CAP == 8 * GIB


@pytest.mark.parametrize("text", [FileNotFoundError(), "MemTotal: 9 kB\n", "MemAvailable: many kB\n"])
def test_a_system_that_does_not_say_gets_a_quarter_of_all(monkeypatch: pytest.MonkeyPatch, text: str | OSError) -> None:
    system(monkeypatch, text)
    assert memory.available() == GIB


def test_a_system_that_says_nothing_at_all_gets_a_quarter_of_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    system(monkeypatch, FileNotFoundError())
    monkeypatch.delattr(memory.os, "sysconf")
    assert memory.available() == 2 * GIB
