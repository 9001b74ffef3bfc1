"""Claims: who runs a cell, or trains in a folder. Any number of processes and machines share a folder by them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

from whatwhere.errors import InputError
from whatwhere.files import unwritable

LEASE = 90.0  # seconds without a sign of life until a claim may be taken over; in all processes on a folder the same
LOOK = 0.5  # seconds between two looks at a claim of another process


class Claim:
    """The right to do something that is done once, held by the process that has written a file.

    The file is created exclusively, which is atomic on what machines share (NFS 3 and later, Lustre, GPFS, SMB), where
    flock may not be. Its holder touches it three times a lease. What a process of this machine left that is gone, by
    `kill -9` say, is taken over at once; what another machine left, a lease after its last touch, by this one's clock.

    Args:
        file: beside what is done under it; removed at the end.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._lease = SoftFileLease(file, lease_duration=LEASE, timeout=0)

    def take(self) -> bool:
        """Whether this process holds it now; asked again and again, it is taken over from a holder that is dead.

        Raises:
            InputError: where no such file can be written.
        """
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._lease.acquire()
        except Timeout:
            return False
        except LeaseSettingsMismatch as error:
            raise InputError(
                f"{self.file}: another version of whatwhere runs this; wait, or delete the file."
            ) from error
        except (OSError, NotImplementedError) as error:
            raise unwritable(self.file, error) from error
        return True

    def release(self) -> None:
        """Another process may take it."""
        self._lease.release()

    def free(self) -> bool:
        """Whether nobody holds it who is alive."""
        if not self.take():
            return False
        self.release()
        return True

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Whether this process holds it in the block."""
        mine = self.take()
        try:
            yield mine
        finally:
            if mine:
                self.release()

    @property
    def holder(self) -> str:
        """Who holds it, in words; empty if nobody does."""
        owner = self._lease.owner
        return f"process {owner.pid} of {owner.hostname.partition('?')[0]}" if owner else ""


@contextmanager
def alone(file: Path, doing: str) -> Iterator[None]:
    """Wait until no other process holds a claim, and hold it in the block.

    Args:
        file: of the claim.
        doing: what is done in the block, for the message to a user who must wait.

    Raises:
        InputError: where no such file can be written.
    """
    claim, told = Claim(file), False
    while not claim.take():
        if not told:
            print(f"{doing}: {claim.holder} does that now; waiting until it is done.", file=sys.stderr, flush=True)
        told = True
        time.sleep(LOOK)
    try:
        yield
    finally:
        claim.release()
