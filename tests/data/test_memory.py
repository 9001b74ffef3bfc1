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

    monkeypatch.setattr(memory, "left_in_groups", list)
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


def group(folder: Path, limit: int | str, used: int, freed: int | None = None, *, first: bool = False) -> None:
    """Write the files of a control group, of the first or the second version."""
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if first else ("memory.max", "memory.current")
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip(names, (limit, used), strict=True):
        (folder / name).write_text(f"{value}\n")
    if freed is not None:
        said = f"inactive_file 7\ntotal_inactive_file {freed}\n" if first else f"inactive_file {freed}\n"
        (folder / "memory.stat").write_text(f"anon 5\n{said}inactive_file_of_another_kind 9\n")


def process(root: Path, *lines: str) -> Path:
    """Say which groups this process is in."""
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "self" / "cgroup").write_text("".join(f"{line}\n" for line in lines))
    return root / "sys" / "fs" / "cgroup"


def test_a_job_may_use_less_than_its_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group(process(tmp_path, "0::/job") / "job", 3 * GIB, 2 * GIB, GIB)
    assert memory.left_in_groups(tmp_path) == [2 * GIB]
    system(monkeypatch, f"MemAvailable: {100 * 2**20} kB\n")
    monkeypatch.setattr(memory, "left_in_groups", lambda: [2 * GIB, 5 * GIB])
    assert (memory.available(), memory.memory_budget()) == (2 * GIB, GIB)
    monkeypatch.setattr(memory, "left_in_groups", lambda: [200 * GIB])
    assert memory.available() == 100 * GIB


def test_the_second_version_with_limits_of_groups_around(tmp_path: Path) -> None:
    top = process(tmp_path, "0::/system.slice/slurm/job_7/step_0")
    group(top / "system.slice" / "slurm" / "job_7" / "step_0", "max", 5, 1)
    group(top / "system.slice" / "slurm" / "job_7", 4000, 1500, 500)
    group(top / "system.slice" / "slurm", 9000, 3000)  # does not say what can be freed
    (top / "memory.stat").write_text("inactive_file 3\n")  # the machine's own group has no limit
    assert memory.left_in_groups(tmp_path) == [3000, 6000]


def test_the_first_version(tmp_path: Path) -> None:
    top = process(tmp_path, "5:devices:/job", "4:cpu,memory:/slurm/job", "1:name=systemd:/job", "0::/")
    group(top / "memory" / "slurm" / "job", 4000, 3500, 100, first=True)
    group(top / "memory", 2**63 - 4096, 9000, 0, first=True)
    group(top / "devices" / "job", 1, 1, first=True)
    assert memory.left_in_groups(tmp_path) == [600, 2**63 - 4096 - 9000]


@pytest.mark.parametrize("line", ["0::/", "0::/docker/of-the-host", "0::/../../elsewhere"])
def test_in_a_container_its_own_group_is_at_the_top(tmp_path: Path, line: str) -> None:
    group(process(tmp_path, line), 4000, 1000, 250)
    assert memory.left_in_groups(tmp_path) == [3250]


def test_in_a_container_of_the_first_version(tmp_path: Path) -> None:
    group(process(tmp_path, "4:memory:/docker/of-the-host") / "memory", 4000, 1000, 250, first=True)
    assert memory.left_in_groups(tmp_path) == [3250]


def test_a_group_that_uses_more_than_its_limit_has_nothing_left(tmp_path: Path) -> None:
    group(process(tmp_path, "0::/"), 1000, 1200, 100)
    assert memory.left_in_groups(tmp_path) == [0]


def test_what_is_not_there_or_makes_no_sense_is_no_limit(tmp_path: Path) -> None:
    assert memory.left_in_groups(tmp_path / "nowhere") == []
    top = process(tmp_path, "0::/job", "nonsense", "")
    assert memory.left_in_groups(tmp_path) == []
    group(top / "job", "a lot", 10)
    (top / "memory.max").write_text("100")  # without what is used
    assert memory.left_in_groups(tmp_path) == []
    group(top, 100, 10)
    (top / "memory.stat").write_text("inactive_file\ninactive_file many\n")
    assert memory.left_in_groups(tmp_path) == [90]
