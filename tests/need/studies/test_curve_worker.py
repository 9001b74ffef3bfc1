"""The worker of the curve: which pictures, which network, and where its parts are."""

import json

import pytest
import torch

import whatwhere as ww
from small_classifier import small_classifier
from small_finished import finished
from whatwhere.data import Data, Split
from whatwhere.data.sources import Memory
from whatwhere.lab.cells import Cell
from whatwhere.need.studies.curve_plan import INTACT_CELL, collapse_cell
from whatwhere.need.studies.tally import Tally, read


def split(n: int = 20) -> Split:
    images = torch.randint(0, 256, (n, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Split("test", Memory(images), torch.arange(n) % 10, [str(i) for i in range(10)])


def plan(**options):
    data = Data("few", {"test": split()})
    return ww.need.Curve(
        small_classifier(), data, **{"methods": ("mean", "gap_fc"), "batch_size": 8, **options}
    ).planned()


def test_cells_are_what_they_say(tmp_path):
    """The intact network, a collapsed one, and a chunk, each by one evaluation of its own."""
    made, pictures = plan(), split()
    worker = made.worker(ww.Run(tmp_path))
    net = made.net
    intact = Tally.from_dict(worker(INTACT_CELL.config))
    assert intact.hits.tolist() == ww.evaluate(net, pictures).correct.long().tolist()
    small = Tally.from_dict(worker(collapse_cell("3").config))
    assert small.hits.tolist() == ww.evaluate(ww.need.collapse(net, "3"), pictures).correct.long().tolist()
    chunk = read(worker(next(iter(made.cells(finished()))).config))
    assert set(chunk) == {None, ("mean", "0"), ("mean", "3")}
    with ww.need.pool(net, "3:"):
        right = ww.evaluate(net, pictures).correct[:16]
    assert chunk["mean", "3"].hits.tolist() == right.long().tolist()


def test_an_interrupted_cell_keeps_its_parts_until_its_result_is_stored(tmp_path, monkeypatch):
    worker = plan().worker(ww.Run(tmp_path))
    seen = []

    def stops(module, args, output):
        seen.append(1)
        if len(seen) == 2:
            raise KeyboardInterrupt

    handle = worker.net.module[0].register_forward_hook(stops)
    with pytest.raises(KeyboardInterrupt):
        worker(INTACT_CELL.config)
    handle.remove()
    file = tmp_path / "checkpoints" / f"{INTACT_CELL.key}.json"
    assert worker.kept(INTACT_CELL) == file
    assert list(json.loads(file.read_text())["parts"]) == ["0"]
    whole = plan().worker(ww.Run(tmp_path / "other"))(INTACT_CELL.config)
    assert worker(INTACT_CELL.config) == whole
    worker.stored(INTACT_CELL)
    assert not file.exists()
    worker.stored(Cell({"never": "run"}))
