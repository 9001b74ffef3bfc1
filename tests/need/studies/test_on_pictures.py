"""What workers at test time share: which pictures, which network, and what is refused of them."""

import pytest
import torch

import whatwhere as ww
from small_classifier import small_classifier
from whatwhere.data import Data, Split
from whatwhere.data.sources import Memory
from whatwhere.errors import InputError
from whatwhere.lab.cells import Cell
from whatwhere.lab.sources import GivenNetwork
from whatwhere.need.studies.on_pictures import check_steady, limited, placed, sized
from whatwhere.network import Network


def split(n: int = 20) -> Split:
    images = torch.randint(0, 256, (n, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Split("test", Memory(images), torch.arange(n) % 10, [str(i) for i in range(10)])


def test_a_limit_leaves_the_test_pictures_alone_and_as_many_of_every_class():
    data = Data("both", {"train": split(), "test": split()})
    assert limited(data, None) is data
    few = limited(data, 10)
    assert list(few.splits) == ["test"]
    assert sorted(few.test.labels.tolist()) == list(range(10))


def test_a_network_without_a_size_gets_that_of_the_pictures():
    plain = Network(small_classifier().module)
    assert sized(plain, split()).input_size == (3, 16, 16)
    assert plain.input_size is None
    known = small_classifier()
    assert sized(known, split()) is known


def test_a_network_given_as_an_object_is_never_moved_itself():
    given = GivenNetwork.of(small_classifier())
    assert placed(given, split(), "auto") is given.net
    elsewhere = placed(given, split(), "meta")
    assert elsewhere.module[0].weight.device.type == "meta"
    assert given.net.module[0].weight.device.type == "cpu"


def test_a_loader_in_another_order_each_time_is_refused():
    data = Data("few", {"test": split()})
    check_steady(data)
    pairs = [(torch.rand(3, 8, 8), i % 2) for i in range(8)]
    loader = torch.utils.data.DataLoader(pairs, batch_size=4, shuffle=True)
    with pytest.raises(InputError, match="give its Dataset"):
        check_steady(ww.load_data(loader))


def test_parts_of_a_cell_are_gone_when_its_result_is_stored(tmp_path):
    study = ww.need.Patches(small_classifier(), Data("few", {"test": split()}), grids=(2,))
    worker, cell = study.planned().worker(ww.Run(tmp_path)), Cell({"grid": 2})
    worker.kept(cell).parent.mkdir()
    worker.kept(cell).write_text("{}")
    worker.stored(cell)
    assert not worker.kept(cell).exists()
    worker.stored(cell)  # nothing to do
