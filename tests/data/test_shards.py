import io
import json
import shutil
import subprocess
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


def test_the_picture_is_the_one_without_another_dot(tmp_path: Path) -> None:
    files = {"1.depth.png": encoded(9), "1.png": encoded(1), "1.cls": b"0", "1.seg.png": encoded(8)}
    files |= {"2.input.png": encoded(2), "2.txt": b"the only one", "2.cls": b"0"}
    files |= {"3.JPG": encoded(3), "3.a.png": encoded(7), "3.b.png": encoded(7), "3.cls": b"0"}
    shard(tmp_path / "0.tar", files)
    assert red(load_data(tmp_path).test) == [1, 2, 3]


@pytest.mark.parametrize("endings", [("jpg", "png"), ("depth.png", "seg.png"), ("a.png", "png", "webp")])
def test_two_pictures_that_may_be_meant(tmp_path: Path, endings: tuple[str, ...]) -> None:
    shard(tmp_path / "0.tar", {f"in/1.{ending}": encoded(1) for ending in endings})
    meant = " and ".join(rf"in/1\.{ending}" for ending in endings if ending != "a.png")
    with pytest.raises(InputError, match=rf"0\.tar: {meant} belong together, .* NAME\.depth\.png beside NAME\.jpg"):
        load_data(tmp_path)


def test_a_class_by_its_name(tmp_path: Path) -> None:
    shard(tmp_path / "0.tar", {"in/a.png": encoded(0), "in/a.cls": b"n01440764\n"})
    told = r"in/a\.cls holds 'n01440764'\): a \.cls must hold the number of a class, .* to classnames\.txt beside"
    with pytest.raises(InputError, match=told) as seen:
        load_data(tmp_path)
    assert "download" not in str(seen.value)


def large(path: Path, members: int = 3) -> Path:
    """A shard of some MB, of which nothing is decoded."""
    return shard(path, {f"{i}.png": bytes([i + 1]) * 900_000 for i in range(members)})


def test_a_block_of_zeros_or_of_no_file_is_not_the_end(tmp_path: Path) -> None:
    for number, block in enumerate((bytes(512), b"x" * 512)):
        path = large(tmp_path / str(number) / "0.tar")
        content = bytearray(path.read_bytes())
        at = content.index(b"1.png")
        content[at : at + 512] = block
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"no file begins at byte {at}, .* write or download it again"):
            load_data(tmp_path / str(number))


def test_a_download_that_was_given_its_place_and_broke_off(tmp_path: Path) -> None:
    path = large(tmp_path / "0.tar")
    content = path.read_bytes()
    at = content.index(b"1.png")
    path.write_bytes(content[:at] + bytes(len(content) - at))
    with pytest.raises(InputError, match=rf"no file begins at byte {at}, and the {len(content) - at} bytes"):
        load_data(tmp_path)


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("blocks", [1, 2, 7, 20, 21, 64, 500, 1009, 2048])
def test_records_of_any_usual_size_pad_an_archive(tmp_path: Path, blocks: int, members: int) -> None:
    path = large(tmp_path / "0.tar", members)
    content = path.read_bytes().rstrip(b"\0")
    assert content[-1] == members
    data = len(content) + -len(content) % 512
    path.write_bytes(content + bytes(-(-(data + 1024) // (512 * blocks)) * 512 * blocks - len(content)))
    assert len(load_data(tmp_path).test) == members


@pytest.mark.skipif(shutil.which("tar") is None, reason="there is no tar")
@pytest.mark.parametrize("blocks", [1, 20, 333, 2048])
def test_shards_that_tar_writes(tmp_path: Path, blocks: int) -> None:
    for i in range(5):
        (tmp_path / f"{i}.png").write_bytes(encoded(i))
    (tmp_path / "shards").mkdir()
    names = [f"{i}.png" for i in range(5)]
    subprocess.run(["tar", "-b", str(blocks), "-cf", "shards/0.tar", *names], cwd=tmp_path, check=True)
    assert red(load_data(tmp_path / "shards").test) == list(range(5))


@pytest.mark.parametrize("zeros", [0, 512, 1024])
def test_an_archive_without_padding(tmp_path: Path, zeros: int) -> None:
    path = large(tmp_path / "0.tar", 1)
    content = path.read_bytes().rstrip(b"\0")
    path.write_bytes(content + bytes(-len(content) % 512 + zeros))
    assert len(load_data(tmp_path).test) == 1


def test_archives_beside_pictures_are_no_shards(tmp_path: Path) -> None:
    shard(tmp_path / "ILSVRC2012_img_val.tar", sample("a", 0, None))
    for name in ("cat", "dog"):
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "train" / name / "1.png").write_bytes(encoded(1))
    assert load_data(tmp_path).classes == ("cat", "dog")
