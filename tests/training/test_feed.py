"""Batches as a split serves them, kept on a device or not, whole or shared among processes."""

import pytest
import torch

from whatwhere.network import Preprocessing
from whatwhere.training import feed as feeding
from whatwhere.training.feed import Feed

ORDER = torch.tensor([3, 1, 7, 0, 9, 2, 8, 4])
GEOMETRY = Preprocessing()


def served(feed: Feed, split, size: int = 4) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(feed.batches(split, ORDER, size))


@pytest.mark.parametrize("apart", [False, True])
def test_batches_are_the_rows_of_the_order(pictures, monkeypatch: pytest.MonkeyPatch, apart: bool) -> None:
    monkeypatch.setattr(feeding, "_apart", lambda device: apart)
    split = pictures(10)
    whole = next(split.batches(10))[0]
    found = served(Feed(GEOMETRY), split)
    assert [len(x) for x, _ in found] == [4, 4]
    assert torch.equal(torch.cat([x for x, _ in found]), whole[ORDER])
    assert torch.equal(torch.cat([y for _, y in found]), split.labels[ORDER])


def test_pictures_are_moved_once(pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    split, asked = pictures(10), []
    monkeypatch.setattr(feeding, "_apart", lambda device: True)
    real = type(split).whole
    monkeypatch.setattr(type(split), "whole", lambda self, geometry: asked.append(geometry) or real(self, geometry))
    feed = Feed(GEOMETRY)
    first, second = served(feed, split), served(feed, split)
    assert asked == [GEOMETRY]
    assert torch.equal(first[1][0], second[1][0])
    monkeypatch.setattr(feeding, "_fits", lambda images, device: False)  # a full device: as they are decoded
    assert torch.equal(served(Feed(GEOMETRY), split)[1][0], first[1][0])


def test_shares_of_all_processes_are_the_batch(pictures) -> None:
    split = pictures(10)
    whole = served(Feed(GEOMETRY), split)
    parts = [served(Feed(GEOMETRY, rank=r, ranks=2), split) for r in range(2)]
    for i, (images, labels) in enumerate(whole):
        assert torch.equal(torch.cat([p[i][0] for p in parts]), images)
        assert torch.equal(torch.cat([p[i][1] for p in parts]), labels)


def test_no_row_no_batch(pictures) -> None:
    assert list(Feed(GEOMETRY).batches(pictures(10), ORDER[:0], 4)) == []
