"""What tells pictures from others although the fingerprint, which reads 64 of them, is the same."""

import io
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from whatwhere.data import contents
from whatwhere.data.boxes import BoxSplit, Objects
from whatwhere.data.contents import contents_of, evenly
from whatwhere.data.downsampled import Arrays
from whatwhere.data.load import load_data
from whatwhere.data.scenes import SceneSplit
from whatwhere.data.shards import Index, Members
from whatwhere.data.sources import Files, Memory, Pairs, Rows
from whatwhere.data.split import SAMPLED, Split, sampled_rows
from whatwhere.data.tables import Column

N = 200
UNREAD = next(row for row in range(N) if row not in sampled_rows(N, SAMPLED))


def pixels(changed: int | None = None) -> Tensor:
    images = torch.randint(0, 256, (N, 3, 4, 5), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    if changed is not None:
        images[changed, 2, 3, 4] ^= 1
    return images


def in_memory(changed: int | None = None) -> Split:
    return Split("test", Memory(pixels(changed)), torch.zeros(N), ["only"])


def encoded(number: int, side: int = 4) -> bytes:
    held = io.BytesIO()
    noise = np.random.default_rng(number).integers(0, 256, (side, 5, 3), dtype=np.uint8)
    Image.fromarray(noise).save(held, "PNG")
    return held.getvalue()


def stored(changed: int | None = None) -> list[bytes]:
    return [encoded(i, 9 if i == changed else 4 + i % 3) for i in range(N)]


def files(folder: Path, pictures: list[bytes]) -> Files:
    folder.mkdir()
    for i, picture in enumerate(pictures):
        (folder / f"{i:03d}.png").write_bytes(picture)
    return Files(sorted(folder.iterdir()))


def table(values: list[dict[str, object]]) -> datasets.Dataset:
    made: datasets.Dataset = datasets.Dataset.from_dict({"image": values}).cast_column("image", datasets.Image())
    return made


def test_a_single_pixel_of_a_picture_that_the_fingerprint_does_not_read() -> None:
    assert in_memory().fingerprint == in_memory(UNREAD).fingerprint
    assert in_memory().contents == in_memory().contents != in_memory(UNREAD).contents
    assert len(in_memory().contents) == 16


def test_a_part_is_of_its_own_rows() -> None:
    whole, rows = in_memory(UNREAD), torch.tensor([5, 3, UNREAD])
    part = contents_of(Rows(whole.source, rows))
    assert part == contents_of(Memory(pixels(UNREAD)[rows])) != contents_of(Rows(in_memory().source, rows))
    assert contents_of(Rows(Rows(whole.source, rows), torch.tensor([1]))) == contents_of(Memory(pixels()[3:4]))
    assert whole.take(20).contents == in_memory(UNREAD).take(20).contents != whole.contents


def test_the_bytes_of_memory_are_all_read_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "PART", 7 * 60)  # parts of 7 pictures say the same
    assert contents_of(Memory(pixels())) == in_memory().contents
    monkeypatch.setattr(contents, "MOST_BYTES", 10 * 60 + 59)
    read = evenly(range(N), 10)
    assert contents_of(Memory(pixels())) == contents_of(Memory(pixels()[read]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int32])
def test_pixels_of_any_type_and_layout(dtype: torch.dtype) -> None:
    turned = pixels().to(dtype).permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert contents_of(Memory(turned)) == contents_of(Memory(pixels().to(dtype))) != in_memory().contents


def test_sizes_are_the_same_in_files_shards_and_tables(tmp_path: Path) -> None:
    for changed in (None, UNREAD):
        pictures = stored(changed)
        on_disk = files(tmp_path / str(changed), pictures)
        index = Index()
        index.sizes.extend(map(len, pictures))
        index.starts.extend(range(N))
        embedded: list[dict[str, object]] = [{"bytes": picture, "path": None} for picture in pictures]
        linked: list[dict[str, object]] = [{"bytes": None, "path": str(path)} for path in on_disk.paths]
        tables = [Column(table(each), "image") for each in (embedded, linked, [*linked[:9], *embedded[9:]])]
        said = {contents_of(source) for source in (on_disk, Members([], index), *tables)}
        assert len(said) == 1
        assert changed is None or said != {contents_of(files(tmp_path / "as before", stored()))}


def test_a_shuffled_table_is_told_in_its_order() -> None:
    pictures: list[dict[str, object]] = [{"bytes": picture, "path": None} for picture in stored()]
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0)).tolist()
    moved = Column(table(pictures).select(order), "image")
    expected = Column(table([pictures[row] for row in order]), "image")
    assert contents_of(moved) == contents_of(expected) != contents_of(Column(table(pictures), "image"))


def test_a_column_of_pixels_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def column(changed: int | None = None) -> Column:
        return Column(datasets.Dataset.from_dict({"image": pixels(changed).permute(0, 2, 3, 1).tolist()}), "image")

    assert contents_of(column()) == contents_of(column()) != contents_of(column(UNREAD))
    monkeypatch.setattr("whatwhere.data.tables.MOST_READ", 2)  # the first and the last
    assert contents_of(column()) == contents_of(column(UNREAD)) != contents_of(column(N - 1))


def test_arrays_in_files_are_read_where_they_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    def arrays(changed: int | None = None) -> Arrays:
        return Arrays([part.numpy() for part in pixels(changed).split(150)])

    assert contents_of(arrays()) != contents_of(arrays(UNREAD))
    monkeypatch.setattr("whatwhere.data.downsampled.WHOLE", 100)
    monkeypatch.setattr("whatwhere.data.downsampled.MOST_READ", 2)
    assert contents_of(arrays()) == contents_of(arrays(UNREAD)) != contents_of(arrays(N - 1))


def test_a_file_that_is_gone_is_another(tmp_path: Path) -> None:
    source = files(tmp_path / "pictures", stored())
    before = contents_of(source)
    source.paths[UNREAD].unlink()
    assert contents_of(source) != before


def test_nothing_is_said_of_what_a_dataset_makes() -> None:
    made = TensorDataset(pixels(), torch.zeros(N, dtype=torch.int64))
    assert contents_of(Pairs(made)) == contents_of(Rows(Pairs(made), torch.arange(3))) == contents_of() == ""
    data = load_data({"train": made, "test": DataLoader(made, 9)})
    assert [split.contents for split in data.splits.values()] == ["", ""]


def test_scenes_with_their_maps_and_boxes() -> None:
    labels = torch.zeros(N, 4, 5, dtype=torch.uint8)
    scenes = SceneSplit("test", Memory(pixels()), {"class": Memory(labels)}, ["a", "b"])
    other = labels.clone()
    other[UNREAD, 1, 1] = 1
    relabelled = SceneSplit("test", Memory(pixels()), {"class": Memory(other)}, ["a", "b"])
    assert scenes.fingerprint == relabelled.fingerprint
    assert scenes.contents != relabelled.contents
    assert scenes.take(9).contents != scenes.contents

    def boxed(changed: int | None = None) -> BoxSplit:
        return BoxSplit("test", Memory(pixels(changed)), [Objects.of([[0, 0, 2, 2]], [0])] * N, ["a"])

    assert boxed().fingerprint == boxed(UNREAD).fingerprint
    assert boxed().contents == boxed().contents != boxed(UNREAD).contents
