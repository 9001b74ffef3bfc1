"""Pictures with boxes: batches, mirrored boxes, fingerprints, and what is refused."""

import pytest
import torch

from whatwhere.data.boxes import Boxes, BoxSplit, Objects
from whatwhere.data.sources import Memory
from whatwhere.errors import InputError
from whatwhere.network import Preprocessing


def split(n: int = 3, boxes: object = ((1, 2, 5, 6),), labels: object = (1,)) -> BoxSplit:
    g = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (n, 3, 8, 10), generator=g, dtype=torch.uint8)
    return BoxSplit("train", Memory(pictures), [Objects.of(boxes, labels)] * n, ("cat", "dog"))


class Uneven:
    """Two pictures of different sizes."""

    def __len__(self) -> int:
        return 2

    def read(self, rows):
        return [torch.zeros(3, 8, 10 + row, dtype=torch.uint8) for row in rows]

    def place(self, row: int) -> str:
        return f"row {row}"


def test_a_mirrored_box_holds_the_same_pixels_of_the_mirrored_picture() -> None:
    picture, objects = split()[0]
    left, top, right, bottom = objects.boxes[0].int().tolist()
    a, b, c, d = objects.mirrored(10).boxes[0].int().tolist()
    assert torch.equal(picture.flip(2)[:, b:d, a:c], picture[:, top:bottom, left:right].flip(2))


def test_batches_give_pictures_with_their_own_boxes_in_the_order_asked_for() -> None:
    pictures = Memory(torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 3, 8, 8).clone())
    own = BoxSplit("test", pictures, [Objects.of([[0, 0, i + 1, 1]], [0]) for i in range(4)], ("cat",))
    served = [*own.batches(2, order=torch.tensor([3, 1, 2]))]
    assert [[int(p[0, 0, 0]) for p in images] for images, _ in served] == [[3, 1], [2]]
    assert [[int(o.boxes[0, 2]) - 1 for o in objects] for _, objects in served] == [[3, 1], [2]]
    taken = own.take(2, seed=1)
    assert [int(p[0, 0, 0]) for p, _ in taken.rows()] == [int(o.boxes[0, 2]) - 1 for _, o in taken.rows()]


def test_difficult_objects_and_crowds_are_not_counted() -> None:
    objects = Objects.of(torch.tensor([[0, 0, 1, 1]] * 3), [0, 0, 1], [True, False, False], [False, True, False])
    assert objects.counted.tolist() == [False, False, True]
    own = BoxSplit("test", Memory(torch.zeros(2, 3, 4, 4, dtype=torch.uint8)), [objects] * 2, ("a", "b"))
    assert own.boxes == 2


def test_the_fingerprint_changes_with_a_box_a_class_a_flag_or_a_picture() -> None:
    plain = split().fingerprint
    assert plain == split().fingerprint
    difficult = split()
    difficult.objects = (Objects.of([[1, 2, 5, 6]], [1], [True]), *difficult.objects[1:])
    others = [split(boxes=((1, 2, 5, 7),)), split(labels=(0,)), split(n=2), difficult]
    assert len({plain, *(o.fingerprint for o in others)}) == 5


def test_what_cannot_be_is_refused_with_its_place() -> None:
    with pytest.raises(InputError, match=r"row 0: label 2 is outside 0\.\.1"):
        split(labels=(2,))
    with pytest.raises(InputError, match=r"row 0: the box \[5.0, 2.0, 5.0, 6.0\] has no area"):
        split(boxes=((5, 2, 5, 6),))
    with pytest.raises(InputError, match=r"goes out of its picture of 10 x 8"):
        split(boxes=((1, 2, 5, 9),))[0]
    with pytest.raises(InputError, match="3 pictures, and boxes of 1"):
        BoxSplit("train", Memory(torch.zeros(3, 3, 4, 4)), [Objects.of([], [])], ("a",))
    with pytest.raises(InputError, match="boxes are measured in the pictures as stored"):
        next(split().batches(2, geometry=Preprocessing(size=(4, 4))))
    uneven = BoxSplit("test", Uneven(), [Objects.of([[0, 0, 1, 1]], [0])] * 2, ("a",))
    with pytest.raises(InputError, match=r"\(3, 8, 10\), \(3, 8, 11\).*batch_size=1"):
        [*uneven.batches(2)]
    assert [p.shape[3] for p, _ in uneven.batches(1)] == [10, 11]


def test_splits_by_their_usual_names() -> None:
    both = Boxes("own", {"Training": split(), "val": split(2)})
    assert (len(both.train), len(both.test), both.classes) == (3, 2, ("cat", "dog"))
    assert both.describe()["boxes"] == {"Training": 3, "val": 2}
    with pytest.raises(InputError, match="no split train; it has val"):
        _ = Boxes("own", {"val": split()}).train
