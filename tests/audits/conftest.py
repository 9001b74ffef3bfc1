"""Audits in folders, written once."""

from pathlib import Path

import pytest

from compared_audits import write


@pytest.fixture(scope="session")
def audits(tmp_path_factory) -> dict[str, Path]:
    return write(tmp_path_factory.mktemp("audits"))
