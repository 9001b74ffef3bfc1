import json
import shlex
import sys

import pytest
import torch

import whatwhere
from whatwhere.lab import provenance
from whatwhere.lab.provenance import command, hardware, versions


def test_versions_name_every_package_that_decides_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    found = versions()
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert set(provenance.PACKAGES) <= set(found)
    monkeypatch.setattr(provenance, "PACKAGES", ("no-such-package",))
    assert versions()["no-such-package"] == "not installed"


def test_hardware_is_plain_and_true() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        found = hardware()
    finally:
        torch.set_num_threads(before)
    assert json.loads(json.dumps(found)) == found
    assert found["threads"] == 2
    assert found["cpu"]
    assert len(found["gpus"]) == torch.cuda.device_count()


def test_the_command_without_the_programs_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/home/someone/bin/whatwhere", "dependency", "--out", "x"])
    assert command() == "whatwhere dependency --out x"


def test_the_command_can_be_typed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["whatwhere", "need", "curve", "--sites", "last 30%", "--data", "my $pictures/it's"]
    monkeypatch.setattr(sys, "argv", words)
    assert shlex.split(command()) == words


def test_run_as_a_module_it_is_the_program_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/whatwhere/__main__.py", "need", "curve"])
    assert command() == "whatwhere need curve"


def test_a_checkout_that_is_not_installed_knows_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str) -> str:
        raise provenance.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(provenance.metadata, "version", missing)
    assert provenance._version.__wrapped__("whatwhere") == whatwhere.__version__
    assert provenance._version.__wrapped__("timm") == "not installed"
