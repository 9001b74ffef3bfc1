from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from whatwhere.data import ahead, load_data
from whatwhere.data.sources import Files, Memory
from whatwhere.data.split import Split
from whatwhere.data.view_batches import view_batches
from whatwhere.data.views import Views, to_view, viewed
from whatwhere.errors import InputError
from whatwhere.network import Preprocessing

VIEWS = Views((0.08, 1.0), (3 / 4, 4 / 3), flip=True)
SIZE = Preprocessing(size=(16, 12))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Split:
    """40 pictures of different sizes."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    paths = [folder / f"{i}.png" for i in range(40)]
    for i, path in enumerate(paths):
        Image.fromarray(rng.integers(0, 256, (30 + i, 70 - i, 3), dtype=np.uint8)).save(path)
    return Split("train", Files(paths), torch.arange(40) % 2, ["a", "b"])


def gather(split: Split, size: int, geometry: Preprocessing | None, order: Tensor | None = None) -> tuple[Tensor, ...]:
    batches = list(view_batches(split, size, VIEWS, seed=9, geometry=geometry, order=order))
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


def test_files_are_cut_one_by_one(files: Split) -> None:
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    images, labels = gather(files, 24, SIZE, order)
    expected = [to_view(files.source.read([row])[0], SIZE, VIEWS, 9, row) for row in order.tolist()]
    assert torch.equal(images, torch.stack(expected))
    assert torch.equal(labels, files.labels[order])


def test_workers_and_batches_change_nothing(files: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    expected = gather(files, 40, SIZE, order)
    for workers, size in ((1, 7), (5, 33)):
        monkeypatch.setattr(ahead, "workers", lambda workers=workers: workers)
        found = gather(files, size, SIZE, order)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_pictures_of_one_size_are_cut_in_whole_batches() -> None:
    images = torch.randint(0, 256, (10, 3, 9, 11), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    split = Split("train", Memory(images), torch.zeros(10), ["a"])
    order = torch.tensor([3, 9, 0, 5, 1])
    found, _ = gather(split, 2, None, order)
    views = [VIEWS.of(9, row, 9, 11) for row in order.tolist()]
    assert torch.equal(found, viewed(images[order], views, (9, 11)))


def test_prepared_floats_are_cut_and_no_bytes() -> None:
    split = Split("train", Memory(torch.rand(6, 3, 8, 8) - 0.5), torch.zeros(6), ["a"])
    found, _ = gather(split, 4, SIZE)
    assert found.shape == (6, 3, 8, 8)
    assert found.is_floating_point()
    assert float(found.min()) < 0


def test_errors(files: Split) -> None:
    with pytest.raises(InputError, match="give a size"):
        gather(files, 8, None)
    with pytest.raises(InputError, match="order has rows from 40"):
        gather(files, 8, SIZE, torch.tensor([40]))
    loader = load_data(DataLoader([(torch.rand(3, 8, 8), i % 2) for i in range(8)], batch_size=4))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"crop_area: a DataLoader .* give its Dataset"):
        gather(loader.test, 4, None)


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    split = Split("train", Files([tmp_path / "broken.png"]), torch.zeros(1), ["a"])
    with pytest.raises(InputError, match=r"split 'train': the picture in row 0 \(file .*broken.png\) cannot be used"):
        gather(split, 1, SIZE)
