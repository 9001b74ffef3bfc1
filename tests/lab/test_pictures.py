"""A folder refuses pictures that have changed where its fingerprints do not look, and takes the same ones anywhere."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import whatwhere as ww
from whatwhere.data import Data
from whatwhere.data.boxes import BoxSplit, Objects
from whatwhere.data.load import load_data
from whatwhere.data.scenes import Scenes, SceneSplit
from whatwhere.data.sources import Memory
from whatwhere.data.split import SAMPLED, Split, sampled_rows
from whatwhere.errors import InputError
from whatwhere.files import read_json, write_json
from whatwhere.lab.pictures import FILE, check_pictures, splits_of

N = 200
UNREAD = [row for row in range(N) if row not in sampled_rows(N, SAMPLED)]


def images(changed: list[int] | None = None) -> Tensor:
    made = torch.randint(0, 256, (N, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    made[changed or []] ^= 255
    return made


def split(name: str, changed: list[int] | None = None) -> Split:
    return Split(name, Memory(images(changed)), torch.arange(N) % 2, ["a", "b"])


def data(**changed: list[int]) -> Data:
    return Data("own", {name: split(name, changed.get(name)) for name in ("train", "validation", "test")})


def plan(given: object, test: object = None, scenes: object = None) -> SimpleNamespace:
    """As much of a plan as matters here."""
    study = SimpleNamespace(data_source=given and SimpleNamespace(given=given))
    if scenes is not None:
        study.scene_source = SimpleNamespace(scenes=scenes)
    return SimpleNamespace(study=study, test_source=test and SimpleNamespace(given=test))


def finish(folder: Path) -> None:
    write_json(folder / "cells" / "0.json", {})


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    ).eval()


def test_corrected_pictures_of_the_same_names_are_refused_by_a_study(tmp_path: Path) -> None:
    before, after, out = data(), data(test=UNREAD), tmp_path / "out"
    assert before.test.fingerprint == after.test.fingerprint
    asked = {"methods": "rows", "repeats": 2, "quiet": True, "out": out}
    first = ww.need.curve(net(), before, **asked)
    assert read_json(out / FILE) == {"contents": {"test": before.test.contents}}
    with pytest.raises(InputError, match=r"cells of other pictures: those of split 'test' have changed since"):
        ww.need.curve(net(), after, **asked)
    with pytest.raises(InputError, match="another content"):
        ww.need.Curve(net(), after, methods="rows", repeats=2).run(out, quiet=True, fold_only=True)
    again = ww.need.curve(net(), data(train=UNREAD, validation=[1]), **asked)  # which a curve does not look at
    assert again.points == first.points
    (out / FILE).unlink()  # as an earlier version left it
    assert ww.need.curve(net(), data(), **asked).points == first.points
    assert (out / FILE).exists()


def test_files_are_known_again_at_another_place(tmp_path: Path) -> None:
    from torchvision.utils import save_image

    for number, picture in enumerate(images()[:70]):
        file = tmp_path / "one" / "test" / "ab"[number % 2] / f"{number:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        save_image(picture / 255, file)
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    check_pictures(tmp_path, plan(load_data(tmp_path / "one")))
    finish(tmp_path)
    check_pictures(tmp_path, plan(load_data(tmp_path / "other")))
    rows = [row for row in range(70) if row not in sampled_rows(70, SAMPLED)]
    loaded = load_data(tmp_path / "other").test
    path = loaded.source.read(rows[:1])[0]
    assert isinstance(path, Path)
    path.write_bytes(path.read_bytes() + b"more")
    changed = load_data(tmp_path / "other")
    assert changed.test.fingerprint == loaded.fingerprint
    with pytest.raises(InputError, match="'test'"):
        check_pictures(tmp_path, plan(changed))


def test_every_split_that_changed_is_named(tmp_path: Path) -> None:
    check_pictures(tmp_path, plan(data(), data()))
    finish(tmp_path)
    check_pictures(tmp_path, plan(data(), data()))
    with pytest.raises(InputError, match=r"split 'train' and 'test of test_data' have"):
        check_pictures(tmp_path, plan(data(train=UNREAD[:1]), data(test=UNREAD)))


def test_without_a_finished_cell_the_pictures_may_change(tmp_path: Path) -> None:
    for changed in (None, UNREAD, None):
        check_pictures(tmp_path, plan(data(test=changed or [])))
        assert read_json(tmp_path / FILE)["contents"]["test"] == split("test", changed).contents


def test_an_unchanged_file_is_not_written_again(tmp_path: Path) -> None:
    check_pictures(tmp_path, plan(data()))
    finish(tmp_path)
    at = (tmp_path / FILE).stat().st_mtime_ns
    check_pictures(tmp_path, plan(data()))
    assert (tmp_path / FILE).stat().st_mtime_ns == at


def test_pictures_of_which_nothing_is_known_leave_what_was(tmp_path: Path) -> None:
    made = load_data({"test": TensorDataset(images(), torch.arange(N) % 2)})
    for nothing in (plan(None), plan(made)):
        check_pictures(tmp_path, nothing)
        assert not (tmp_path / FILE).exists()
    check_pictures(tmp_path, plan(data()))
    finish(tmp_path)
    kept = read_json(tmp_path / FILE)
    check_pictures(tmp_path, plan(made))
    assert read_json(tmp_path / FILE) == kept


def test_a_file_of_that_name_that_no_study_wrote(tmp_path: Path) -> None:
    write_json(tmp_path / FILE, {"contents": {}, "by": "someone"})
    with pytest.raises(InputError, match=r"pictures\.json is there already, and this command did not write it"):
        check_pictures(tmp_path, plan(data()))
    check_pictures(tmp_path, plan(data()), overwrite=True)
    assert read_json(tmp_path / FILE)["contents"].keys() == {"train", "test"}


def test_which_splits_count() -> None:
    def names(found: Mapping[str, object]) -> list[str]:
        return list(found)

    assert names(splits_of(plan(data()))) == ["train", "test"]
    assert names(splits_of(plan(Data("own", {"train": split("train")})))) == ["train"]
    own = SimpleNamespace(study=SimpleNamespace(), measured=[split("validation")])
    assert names(splits_of(own)) == ["validation"]
    maps = {"class": Memory(torch.zeros(N, 8, 8, dtype=torch.uint8))}
    scenes = {n: SceneSplit(n, Memory(images()), maps, ["a"]) for n in ("train", "validation", "test")}
    assert names(splits_of(plan(None, scenes=Scenes("own", scenes)))) == ["train", "validation", "test"]


def test_boxes_count_too(tmp_path: Path) -> None:
    def boxed(changed: list[int] | None = None) -> SimpleNamespace:
        objects = [Objects.of([[0, 0, 2, 2]], [0])] * N
        return SimpleNamespace(
            study=SimpleNamespace(), measured=[BoxSplit("test", Memory(images(changed)), objects, ["a"])]
        )

    check_pictures(tmp_path, boxed())
    finish(tmp_path)
    check_pictures(tmp_path, boxed())
    with pytest.raises(InputError, match="'test'"):
        check_pictures(tmp_path, boxed(UNREAD))
