"""Import paths of the user's own things, whatever option they are given as."""

import sys

import pytest

from whatwhere.errors import InputError
from whatwhere.imported import attribute_at, is_import_path, module_at, short


def test_what_an_import_path_is() -> None:
    assert is_import_path("package.module:function")
    assert not any(map(is_import_path, ["timm/resnet18", "cifar/vgg16", "hf/a:b", "resnet18"]))


def test_a_module_beside_the_command_is_found_and_its_names(tmp_path, monkeypatch) -> None:
    (tmp_path / "beside_it.py").write_text("class A:\n    b = 3\n")
    (tmp_path / "broken_one.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert attribute_at("score", "beside_it:A.b", module_at("score", "beside_it:A.b")) == 3
    with pytest.raises(InputError, match="score='beside_it:C' matches nothing"):
        attribute_at("score", "beside_it:C", module_at("score", "beside_it:C"))
    with pytest.raises(InputError, match="score='broken_one:f': importing broken_one fails with ZeroDivisionError"):
        module_at("score", "broken_one:f")
    with pytest.raises(InputError, match="score='not_there_at_all:f': there is no module 'not_there_at_all'"):
        module_at("score", "not_there_at_all:f")
    with pytest.raises(InputError, match="give an import path such as beside_it:function, not a file"):
        module_at("score", "beside_it.py:f")


def test_an_error_of_foreign_code_is_one_line() -> None:
    assert short(ValueError("a\n  b")) == "ValueError: a b"
