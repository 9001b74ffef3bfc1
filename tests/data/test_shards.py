import io
import json
import tarfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from whatwhere.data import load_data
from whatwhere.errors import InputError


def encoded(value: int) -> bytes:
    held = io.BytesIO()
    Image.new("RGB", (5, 4), (value, 0, 0)).save(held, "PNG")
    return held.getvalue()


def shard(path: Path, files: dict[str, bytes], *, how: str = "w", form: int = tarfile.GNU_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, how, format=form) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def sample(key: str, value: int, label: int | None) -> dict[str, bytes]:
    said = {} if label is None else {f"{key}.cls": f"{label}\n".encode()}
    return {f"{key}.png": encoded(value), **said}


def red(split: object) -> list[int]:
    images: Tensor = torch.cat([x for x, _ in split.batches(3)])  # type: ignore[attr-defined]
    return images[:, 0, 0, 0].tolist()


def test_pictures_and_labels_in_the_order_of_shards_and_members(tmp_path: Path) -> None:
    for number in range(3):
        files: dict[str, bytes] = {}
        for i in range(4):
            files |= sample(f"{number:04d}{i}", 10 * number + i, (number + i) % 3)
        form = (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT)[number]
        shard(tmp_path / f"imagenet1k-train-{number:04d}.tar", files, form=form)
    shard(tmp_path / "imagenet1k-validation-00.tar", sample("a", 99, 2))
    data = load_data(tmp_path)
    assert list(data.splits) == ["train", "validation"]
    assert red(data.train) == [10 * n + i for n in range(3) for i in range(4)]
    assert data.train.labels.tolist() == [(n + i) % 3 for n in range(3) for i in range(4)]
    assert (red(data.test), data.test.labels.tolist(), data.classes) == ([99], [2], ("0", "1", "2"))
    order = torch.tensor([11, 0, 5])
    assert next(data.train.batches(3, order=order))[0][:, 0, 0, 0].tolist() == [23, 0, 11]
    assert data.train.fingerprint != data.test.fingerprint


def test_labels_in_json_folders_and_names_of_classes(tmp_path: Path) -> None:
    for split, value in (("train", 1), ("val", 2)):
        files = {}
        for label in range(2):
            about = json.dumps({"label": label, "caption": "x"}).encode()
            files |= {f"deep/{label}.seg.png": encoded(value), f"deep/{label}.json": about, f"deep/{label}.txt": b"x"}
        shard(tmp_path / split / "0000.tar", files)
    (tmp_path / "classnames.txt").write_text("cat\ndog\n")
    data = load_data(tmp_path)
    assert data.classes == ("cat", "dog")
    assert data.train.labels.tolist() == data.test.labels.tolist() == [0, 1]
    assert red(data.train) == [1, 1]


def test_shards_without_labels_or_a_split_and_groups_without_a_picture(tmp_path: Path) -> None:
    long = "folder/" + "n" * 150  # a name that needs a header of its own
    shard(tmp_path / "0.tar", {**sample("a", 3, None), "b.txt": b"no picture", "._a.png": b"", **sample(long, 4, None)})
    with pytest.warns(UserWarning, match="1 groups of files hold no picture"):
        data = load_data(tmp_path)
    assert red(data.test) == [3, 4]
    assert data.test.labels.tolist() == [-1, -1]


def test_places_name_file_and_shard(tmp_path: Path) -> None:
    shard(tmp_path / "train-0.tar", {**sample("a", 0, 0), "b.png": b"broken", "b.cls": b"1"})
    split = load_data(tmp_path).splits["train"]
    assert split.source.place(0) == f"row 0 (a.png in {tmp_path / 'train-0.tar'})"
    with pytest.raises(InputError, match=r"the picture in row 1 \(b\.png in .*train-0\.tar\) cannot be used"):
        red(split)


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    shard(tmp_path / "some" / "train-0.tar", {**sample("a", 0, 0), **sample("b", 0, None)})
    with pytest.raises(
        InputError, match=r"1 of 2 pictures of split 'train' have no label \(\.cls, or 'label' in \.json\)"
    ):
        load_data(tmp_path / "some")
    shard(tmp_path / "packed" / "0.tar.gz", sample("a", 0, 0), how="w:gz")
    with pytest.raises(InputError, match=r"0\.tar\.gz is compressed, .* unpack it to a \.tar"):
        load_data(tmp_path / "packed")
    shard(tmp_path / "wrong" / "0.tar", {"a.png": encoded(0), "a.cls": b"cat"})
    with pytest.raises(InputError, match=r"0\.tar cannot be read \(.*cat"):
        load_data(tmp_path / "wrong")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "0.tar").write_bytes(b"x" * 2000)
    with pytest.raises(InputError, match=r"0\.tar cannot be read"):
        load_data(tmp_path / "broken")


def test_archives_beside_pictures_are_no_shards(tmp_path: Path) -> None:
    shard(tmp_path / "ILSVRC2012_img_val.tar", sample("a", 0, None))
    for name in ("cat", "dog"):
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "train" / name / "1.png").write_bytes(encoded(1))
    assert load_data(tmp_path).classes == ("cat", "dog")
