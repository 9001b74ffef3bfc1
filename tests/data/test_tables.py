import io
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import numpy as np
import pytest
import torch
from PIL import Image

from whatwhere.data import load_data
from whatwhere.data.split import Split
from whatwhere.data.tables import find_image_column, find_label_column, split_name, table_part
from whatwhere.errors import InputError

IMAGE, INT, TEXT = datasets.Image(), datasets.Value("int64"), datasets.Value("string")
NAMED = datasets.ClassLabel(names=["cat", "dog"])


@pytest.mark.parametrize(
    ("features", "given", "column"),
    [
        ({"picture": IMAGE, "image": TEXT}, None, "picture"),
        ({"image": IMAGE, "label": IMAGE}, None, "image"),
        ({"a": IMAGE, "b": IMAGE}, "b", "b"),
        ({"pixel_values": datasets.List(INT), "label": INT}, None, "pixel_values"),
    ],
)
def test_the_image_column_is_found(features: dict[str, Any], given: str | None, column: str) -> None:
    assert find_image_column(features, given) == column


@pytest.mark.parametrize(
    ("features", "given", "column"),
    [
        ({"img": IMAGE, "coarse_label": NAMED, "fine_label": NAMED}, None, "fine_label"),
        ({"img": IMAGE, "labels": INT, "label": INT}, None, "label"),
        ({"img": IMAGE, "species": NAMED, "id": INT}, None, "species"),
        ({"img": IMAGE, "id": INT}, None, "id"),
        ({"img": IMAGE, "label": TEXT, "n": INT}, None, "n"),
        ({"img": IMAGE, "coarse_label": NAMED, "fine_label": NAMED}, "coarse_label", "coarse_label"),
    ],
)
def test_the_label_column_is_found(features: dict[str, Any], given: str | None, column: str) -> None:
    assert find_label_column(features, given) == column


@pytest.mark.parametrize(
    ("features", "given", "message"),
    [
        ({"img": IMAGE, "a": INT, "b": INT}, None, r"several columns fit.*'a' \(int64\).*Give label_column="),
        ({"img": IMAGE, "a": NAMED, "b": NAMED}, None, "several columns fit.*ClassLabel"),
        ({"img": IMAGE, "label": TEXT}, None, r"no column fits.*'label' \(string\)"),
        ({"img": IMAGE, "label": INT}, "lable", "label_column='lable' does not exist; the columns are 'img'"),
        ({"img": IMAGE, "label": IMAGE}, "label", "label_column='label' is Image, not a class number"),
    ],
)
def test_an_unclear_label_column_is_refused(features: dict[str, Any], given: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_label_column(features, given)


@pytest.mark.parametrize(
    ("features", "given", "message"),
    [
        ({"a": IMAGE, "b": IMAGE}, None, r"image_column is not given.*'a' \(Image\), 'b' \(Image\)"),
        ({"text": TEXT, "label": INT}, None, "image_column is not given"),
        ({"img": IMAGE}, "image", "image_column='image' does not exist"),
    ],
)
def test_an_unclear_image_column_is_refused(features: dict[str, Any], given: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_image_column(features, given)


def pictures(n: int) -> list[dict[str, Any]]:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG")
    return [{"bytes": buffer.getvalue(), "path": f"p{i}.png"} for i in range(n)]


def table(labels: list[Any], feature: Any = INT, images: list[Any] | None = None) -> datasets.Dataset:
    columns = {"img": images or pictures(len(labels)), "label": labels}
    return datasets.Dataset.from_dict(columns, features=datasets.Features({"img": IMAGE, "label": feature}))


def test_a_corrupt_row_is_named() -> None:
    images = pictures(5)
    images[3]["bytes"] = images[3]["bytes"][:30]
    data = load_data(table([0] * 5, images=images))
    with pytest.raises(InputError, match=r"'test': the picture in row 3 \(file p3\.png\).*Remove or replace"):
        list(data.test.batches(2))


def test_an_empty_picture_is_named() -> None:
    images = [*pictures(2), None]
    with pytest.raises(InputError, match="row 2: column 'img' is empty"):
        list(load_data(table([0] * 3, images=images)).test.batches(2))


def test_an_empty_label_is_named() -> None:
    with pytest.raises(InputError, match="'test', row 1: column 'label' is empty"):
        load_data(table([0, None, 1]))


def test_a_negative_label_is_named_with_its_file() -> None:
    with pytest.raises(InputError, match=r"'test', row 2 \(file p2\.png\): label -3 is outside 0\.\.1"):
        load_data(table([0, 1, -3]))


def test_hidden_labels_and_no_labels() -> None:
    hidden = load_data(table([-1, -1], NAMED))
    assert hidden.classes == ("cat", "dog")
    assert hidden.test.labels.tolist() == [-1, -1]
    without = load_data(table([0, 1], NAMED), label_column="")
    assert without.classes == ()
    assert without.test.labels.tolist() == [-1, -1]


def test_an_empty_table_is_refused() -> None:
    with pytest.raises(InputError, match="'test' is empty"):
        load_data(table([0]).select([]))


def test_a_transform_is_not_silently_ignored() -> None:
    with pytest.raises(InputError, match="'train' has a transform set"):
        table_part("train", table([0]).with_transform(lambda batch: batch))


def test_a_format_changes_nothing() -> None:
    plain, formatted = (load_data(t).test for t in (table([0, 1]), table([0, 1]).with_format("torch")))
    assert plain.fingerprint == formatted.fingerprint
    assert torch.equal(next(plain.batches(2))[0], next(formatted.batches(2))[0])


def test_a_column_of_arrays_is_read_as_pixels() -> None:
    pixels = np.arange(2 * 28 * 28).reshape(2, 28, 28) % 256
    rows = datasets.Dataset.from_dict({"pixel_values": pixels.tolist(), "label": [0, 1]})
    part = table_part("test", rows)
    images, _ = next(Split("test", part.source, part.labels, ["a", "b"]).batches(2))
    assert np.array_equal(images.numpy(), np.repeat(pixels[:, None], 3, 1))


def test_a_streamed_table_is_refused() -> None:
    with pytest.raises(InputError, match="IterableDataset"):
        load_data(table([0]).to_iterable_dataset())


def test_split_names_lose_their_slice() -> None:
    rows = table([0])
    assert split_name(rows) == "test"
    rows.info.splits = None
    rows._split = datasets.NamedSplit("train[:10%]")
    assert split_name(rows) == "train"


def test_what_was_downloaded_from_the_hub_is_there_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the folders that `hf download --repo-type dataset me/tiny` makes."""
    snapshot = tmp_path / "hub" / "datasets--me--tiny" / "snapshots" / ("a" * 40)
    (tmp_path / "hub" / "datasets--me--tiny" / "refs").mkdir(parents=True)
    (tmp_path / "hub" / "datasets--me--tiny" / "refs" / "main").write_text("a" * 40)
    (snapshot / "data").mkdir(parents=True)
    rows = {"image": [Image.new("RGB", (4, 4), (i, 0, 0)) for i in range(3)], "label": [0, 1, 0]}
    table = datasets.Dataset.from_dict(rows).cast_column("label", datasets.ClassLabel(names=["a", "b"]))
    table.to_parquet(snapshot / "data" / "train-00000-of-00001.parquet")
    given = datasets.load_dataset

    def offline(name: str, *options: object) -> object:
        if name.startswith("me/"):
            raise ConnectionError(name)
        return given(name, *options)

    monkeypatch.setattr(datasets, "load_dataset", offline)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    data = load_data("hf/me/tiny")
    assert (data.name, data.classes, data.train.labels.tolist()) == ("hf/me/tiny", ("a", "b"), [0, 1, 0])
    with pytest.raises(InputError, match="bring `hf download --repo-type dataset me/other` here"):
        load_data("hf/me/other")
