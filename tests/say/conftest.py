"""A small segmentation network, drawn streets as a folder, and pages without figures."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from torch import nn

from small_segmenter import small_segmenter
from whatwhere.data.streets import draw_streets
from whatwhere.report import page

SPLITS = {"train": 12, "validation": 6, "test": 8}


@pytest.fixture
def small() -> Callable[..., nn.Module]:
    return small_segmenter


@pytest.fixture(scope="session")
def street_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn streets as pictures and label maps."""
    root = tmp_path_factory.mktemp("streets")
    for seed, (name, n) in enumerate(SPLITS.items()):
        drawn = draw_streets(n, size=(32, 48), seed=seed)
        for kind in ("images", "labels"):
            (root / name / kind).mkdir(parents=True)
        for i, (picture, labels) in enumerate(drawn.rows()):
            Image.fromarray(picture.permute(1, 2, 0).numpy()).save(root / name / "images" / f"{i:02}.png")
            Image.fromarray(labels["class"].numpy()).save(root / name / "labels" / f"{i:02}.png")
    (root / "classes.json").write_text(json.dumps({"classes": list(drawn.classes)}))
    return root


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take seconds."""
    monkeypatch.setattr(page, "save_figure", lambda *_: None)
    monkeypatch.setattr(page, "_inline", lambda figure: "")
