import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from whatwhere.errors import InputError
from whatwhere.lab.there import Call, there


def test_a_call_runs_in_the_commands_folder_with_its_share_of_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def where(config: Mapping[str, Any]) -> tuple[str, int, Any]:
        return os.getcwd(), torch.get_num_threads(), config["x"]

    monkeypatch.chdir(Path(__file__).parent)  # and back at the end
    threads = torch.get_num_threads()
    try:
        assert there(Call(where, str(tmp_path), 3), {"x": 5}) == (str(tmp_path), 3, 5)
        assert there(Call(where, str(tmp_path)), {"x": 5}) == (str(tmp_path), 3, 5)
    finally:
        torch.set_num_threads(threads)


def test_a_call_sees_the_gpus_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.chdir(tmp_path)  # and back at the end
    seen = lambda config: os.environ["CUDA_VISIBLE_DEVICES"]  # noqa: E731
    assert there(Call(seen, str(tmp_path)), {}) == "0"
    assert there(Call(seen, str(tmp_path), gpus=("3", "5")), {}) == "3,5"


def test_a_folder_that_is_not_shared_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"{tmp_path}/gone is not on .*: give the command in a folder that all nodes"):
        Call(dict, str(tmp_path / "gone"))({})
