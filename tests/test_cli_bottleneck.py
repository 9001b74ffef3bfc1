"""The commands `whatwhere bottleneck …`, as a user types them, on a folder of pictures."""

import json

import pytest
from PIL import Image

from whatwhere.cli import main
from whatwhere.cli.bottleneck import assignments
from whatwhere.data.streets import draw_streets
from whatwhere.errors import InputError
from whatwhere.models.load import read_tensors
from whatwhere.report import page

SPLITS = {"train": 12, "validation": 6, "test": 8}


def run(capsys, *arguments: object) -> str:
    main(["bottleneck", *map(str, arguments)])
    return capsys.readouterr().out


def fails(capsys, *arguments: object) -> str:
    with pytest.raises(SystemExit) as exit_:
        main(["bottleneck", *map(str, arguments)])
    assert exit_.value.code == 2
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
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


def test_train_evaluate_explain_intervene(capsys, folder, tmp_path, monkeypatch):
    """One user's way through."""
    monkeypatch.setattr(page, "save_figure", lambda *_: None)  # figures take seconds
    monkeypatch.setattr(page, "_inline", lambda figure: "")
    trained, out, spec = tmp_path / "net", tmp_path / "say", tmp_path / "concepts.json"
    weights = trained / "weights.safetensors"
    text = run(capsys, "train", "--data", folder, "--out", trained, "--width", 0.25, "--epochs", 1, "--batch_size", 4,
               "--crop", "[32,48]", "--scale", "[1,1]")  # fmt: skip
    assert f"{weights}: mIoU" in text
    history = json.loads((trained / "history.json").read_text())
    assert (len(history["epochs"]), history["recipe"]["crop"]) == (1, [32, 48])
    before = weights.read_bytes()
    spec.write_text(
        json.dumps({"merged": {"vehicle": ["bus", "car", "taxi"], "flat": ["road", "pavement"]}, "positions": True})
    )
    same = ("--data", folder, "--weights", weights, "--out", out, "--width", 0.25)
    how = ("--concepts", spec, "--epochs", 1)
    assert "bottleneck evaluate" in fails(capsys, "explain", *same)
    text = run(capsys, "evaluate", *same, *how, "--kinds", "ssb")
    assert f"open {out / 'index.html'}" in text
    assert "128 channels become 8 concepts" in text
    assert f"open {out / 'explain' / 'index.html'}" in run(capsys, "explain", *same, "--pictures", "0,5")
    text = run(capsys, "intervene", *same, "--picture", 2, "--set", "vehicle=0,place: *=truth", "--box", "[0.5,1,0,1]")
    assert "% of the picture is said otherwise" in text
    written = (out / "intervene" / "index.html").read_text()
    assert "Test picture 2 at backbone.layer4: vehicle = 0.0, place: * = truth" in written
    assert weights.read_bytes() == before
    assert "no test picture 8" in fails(capsys, "intervene", *same, "--picture", 8, "--set", "vehicle=0")
    assert "holds another study" in fails(capsys, "evaluate", *same, *how[:-1], 2)
    assert "(trained are those at backbone.layer4)" in fails(capsys, "explain", *same, "--site", "head")
    kept = read_tensors(next((out / "weights").glob("*.safetensors")))
    assert kept["backbone.layer4.bottleneck.encode.weight"].shape == (8, 128, 1, 1)


def test_what_is_set():
    assert assignments(["vehicle=0", " part: a=b = 0.5", "colour: *=truth"]) == {
        "vehicle": 0.0, "part: a=b": 0.5, "colour: *": "truth",
    }  # fmt: skip
    for wrong in ("vehicle", "=1", "vehicle=", "vehicle=no"):
        with pytest.raises(InputError, match="give concept=value"):
            assignments([wrong])


def test_mistakes_are_told_in_a_line(capsys, folder, tmp_path):
    assert "no such file" in fails(capsys, "evaluate", "--data", folder, "--weights", tmp_path / "x.safetensors", "--out",
                                   tmp_path)  # fmt: skip
    spec = tmp_path / "c.json"
    spec.write_text("[]")
    assert "data=" in fails(capsys, "train", "--data", tmp_path / "none", "--out", tmp_path)
