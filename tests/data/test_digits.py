import torch
from sklearn.datasets import load_digits

from whatwhere.data.digits import digits


def test_digits_are_the_scans_enlarged() -> None:
    data = digits()
    assert data.describe()["sizes"] == {"train": 1347, "test": 450}
    assert data.train.shape() == (3, 32, 32)
    scans = {
        tuple((s * 255 / 16).round().astype(int)): int(y) for s, y in zip(*load_digits(return_X_y=True), strict=True)
    }
    for split in (data.train, data.test):
        images, labels = next(split.batches(len(split)))
        assert torch.equal(
            images,
            images[:, :1, ::4, ::4].repeat_interleave(4, 2).repeat_interleave(4, 3).expand(-1, 3, -1, -1),
        )
        for image, label in zip(images[::37], labels[::37], strict=True):
            assert scans[tuple(image[0, ::4, ::4].flatten().tolist())] == label


def test_digits_are_stratified_and_repeatable() -> None:
    one, two = digits(), digits()
    assert one.describe() == two.describe()
    shares = [torch.bincount(split.labels) / len(split) for split in (one.train, one.test)]
    assert torch.allclose(shares[0], shares[1], atol=0.005)
