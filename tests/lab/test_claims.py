"""One process at a time, whoever is killed, on this machine or on another."""

import errno
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from small_process import light_in, started, wait_for
from whatwhere.errors import InputError
from whatwhere.lab import claims
from whatwhere.lab.claims import Claim, alone

CONTEND = """
import os, time
from pathlib import Path
from whatwhere.lab.claims import Claim
folder, done = Path({folder!r}), 0
while done < 20:
    with Claim(folder / "a.claim").held() as mine:
        if mine:
            os.close(os.open(folder / "inside", os.O_CREAT | os.O_EXCL))  # fails if another is inside
            time.sleep(0.001)
            os.unlink(folder / "inside")
            done += 1
    time.sleep(0.001)
"""
HOLD = """
import time
from pathlib import Path
from whatwhere.lab.claims import Claim
claim = Claim(Path({file!r}))
claim.take()
Path({tell!r}).write_text("held")
time.sleep(60)
"""


def test_one_process_at_a_time(tmp_path: Path) -> None:
    light = light_in(tmp_path)
    many = [started(CONTEND.format(folder=str(tmp_path)), light) for _ in range(3)]
    assert [p.wait(60) for p in many] == [0, 0, 0]
    assert not list(tmp_path.glob("a.claim*"))


def test_what_a_killed_process_held_is_free_at_once_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    file, tell = tmp_path / "cells" / "a.claim", tmp_path / "tell"
    holder = started(HOLD.format(file=str(file), tell=str(tell)), light_in(tmp_path))
    wait_for(tell)
    claim = Claim(file)
    assert (claim.take(), claim.free(), claim.holder.split(" of ")[0]) == (False, False, f"process {holder.pid}")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert claim.take()
    claim.release()
    assert (claim.holder, list(file.parent.iterdir())) == ("", [])


def of_another_machine(file: Path) -> None:
    """As a machine leaves it that lost its power."""
    claim = Claim(file)
    assert claim.take()
    text = file.read_text()
    claim.release()
    file.write_text("".join("host=far\n" if line.startswith("host=") else line for line in text.splitlines(True)))


def test_another_machines_claim_holds_while_it_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "LEASE", 0.4)
    file = tmp_path / "a.claim"
    of_another_machine(file)
    os.utime(file, (1, 1))  # another machine's clock says nothing
    claim, touched = Claim(file), time.monotonic()
    for _ in range(8):
        assert not claim.take()
        assert claim.holder.endswith(" of far")
        time.sleep(0.1)
        os.utime(file)
        touched = time.monotonic()
    while not claim.take():
        time.sleep(0.02)
    assert time.monotonic() - touched > 0.4
    claim.release()


def test_a_holder_that_works_on_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "LEASE", 0.3)
    with Claim(tmp_path / "a.claim").held() as mine:
        other, end = Claim(tmp_path / "a.claim"), time.monotonic() + 1
        while time.monotonic() < end:
            assert not other.take()
            time.sleep(0.02)
    assert mine
    assert other.free()


def test_leftovers_of_another_version_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_another_machine(tmp_path / "a.claim")
    monkeypatch.setattr(claims, "LEASE", 50.0)
    with pytest.raises(InputError, match=r"a\.claim: another version of whatwhere runs this; wait, or delete the file"):
        Claim(tmp_path / "a.claim").take()


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.EROFS, "Read-only file system. Choose a folder that you may write to"), (errno.ENOSYS, "choose another")],
)
def test_a_folder_that_takes_no_claims(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("filelock.SoftFileLease.acquire", refused)
    with pytest.raises(InputError, match=rf"cannot write .*a\.claim: .*{advice}"):
        Claim(tmp_path / "a.claim").take()


def test_a_second_one_waits_and_says_for_whom(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, order = Claim(tmp_path / "a.claim"), list[str]()
    assert first.take()

    def second() -> None:
        with alone(tmp_path / "a.claim", "training in x"):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    time.sleep(0.1)
    order.append("first")
    first.release()
    thread.join(10)
    assert order == ["first", "second"]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert f"training in x: process {os.getpid()} of " in said[0]
    assert "waiting until it is done" in said[0]
