"""The run-book: every entry at toy size, gone on with; its words against the commands' own options; data in pieces."""

import sys
import tarfile
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))

gpu, run_book = (import_module(name) for name in ("gpu", "run_book"))
STUDIES, book = run_book.STUDIES, run_book.book


def called(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py", *words])
    gpu.main()


def test_every_entry_runs_at_toy_size_once(tmp_path, monkeypatch, capsys):
    """Which is what shows that each command's words are right; a second call finds all of it finished."""
    words = ("--dry", "--device", "cpu", "--out", str(tmp_path))
    called(monkeypatch, *words)
    ran = [line for line in capsys.readouterr().out.splitlines() if line.startswith("$ ")]
    assert len(ran) == sum(len(entry.steps) for entry in book())
    claims = (tmp_path / "claims.md").read_text()
    assert claims.count("Finished.") == len(book())
    assert "nothing finished" not in claims
    assert "| GAP+FC |" in claims
    with tarfile.open(tmp_path / "results.tar") as archive:
        names = archive.getnames()
    assert any(name.startswith("vgg16/cells/") for name in names)
    assert {"state.json", "vgg16/table.csv", "say/table.csv", "speed-curve.json"} <= set(names)
    assert not [name for name in names if name.endswith(".safetensors")]
    called(monkeypatch, *words)
    assert "$ " not in (said := capsys.readouterr().out)
    assert said.count(": finished") == len(book())


def test_the_first_question_is_the_papers():
    """One seed at all depths first, then three; each depth begins at another of the 13 convolutions."""
    import whatwhere as ww
    from whatwhere.depth import within_share

    steps = book()[0].steps
    shares = [float(s) for s in steps[0].options["shares"].split(",")]
    cuts = ww.sites(ww.load_model("cifar/vgg16", classes=100, width=0.1)).cuts
    found = [within_share(cuts, share) for share in shares]
    assert len({site.name for site in found if site}) == 13
    assert [step.options["seeds"] for step in steps] == ["0", "0,1,2"]
    assert steps[0].options["out"] == book()[1].steps[0].options["out"]  # the same intact networks serve both
    assert {step.command for entry in book() for step in entry.steps if not step.is_script} - {
        "train",
        "say train",
    } <= {*STUDIES}


def test_the_estimate_is_the_operations_over_the_rate():
    import whatwhere as ww

    (step, *_) = book()[0].steps
    once = ww.sites(ww.load_model("cifar/vgg16", classes=100)).total_flops
    assert step.trains
    assert gpu.flops(step.trains) == 3 * once * 50_000 * 60 * 14
    assert gpu.minutes([step], 1e14) == pytest.approx(gpu.flops(step.trains) / (gpu.USED * 1e14) / 60)
    assert gpu.minutes([], 1e14) is None


def test_data_goes_in_pieces_and_comes_whole(tmp_path):
    source = tmp_path / "pictures"
    (source / "train").mkdir(parents=True)
    for i in range(3):
        (source / "train" / f"{i}.bin").write_bytes(bytes(range(256)) * (i + 1) * 40)
    parts = tmp_path / "parts"
    made = gpu.pieces(source, parts, 20_000)
    assert len(made) > 3
    assert max(part.stat().st_size for part in made) <= 20_000
    gpu.join(parts, tmp_path / "there")
    for file in (source / "train").iterdir():
        assert (tmp_path / "there" / "pictures" / "train" / file.name).read_bytes() == file.read_bytes()

    whole, third = made[2].read_bytes(), made[2]
    for change, said in ((third.unlink, "is missing"), (lambda: third.write_bytes(whole[:-1]), "not as it was made")):
        change()
        with pytest.raises(SystemExit, match=rf"pictures\.002: this piece (is )?{said}; carry it again"):
            gpu.join(parts, tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    with pytest.raises(SystemExit, match="no list of pieces"):
        gpu.join(tmp_path / "elsewhere", tmp_path / "nothing")


@pytest.mark.parametrize("pair", ["cifar100", "cifar10=DIR"])
def test_data_that_the_book_does_not_know_are_refused(pair, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        called(monkeypatch, "--data", pair, "--out", str(tmp_path))
    assert f"{pair!r}: give cifar100=FOLDER or camvid=FOLDER" in capsys.readouterr().err


@pytest.mark.parametrize("more", [{}, {"fold_only": "true"}])
def test_the_words_at_full_size_are_options_of_their_commands(tmp_path, more):
    """Which the dry run does not show, whose toy options replace them."""
    from whatwhere import wings
    from whatwhere.arguments import parsed
    from whatwhere.lab.study import loaded

    places = {f"{w} {name}": at for w, p in wings.wings().items() for name, at in wings.commands_of(p).items()}
    folders = {"cifar100": "C", "camvid": "V", "out": str(tmp_path), "device": "cuda"}
    runner = gpu.Runner(gpu.State(tmp_path), folders, "cuda", 4, False, 0.0)
    for step in (s for entry in book() for s in entry.steps if not s.is_script and (not more or s.command in STUDIES)):
        first, *words = runner._words(step, **more)
        command = step.command.split()
        assert [first, *words[: len(command)]] == ["whatwhere", *command]
        thing = loaded({**wings.TOP, **places}[step.command])
        values = parsed(f"whatwhere {step.command}", thing, words[len(command) :])
        assert values["device"] == "cuda"
        assert str(values["out"]).startswith(str(tmp_path))
        assert values.get("fold_only", False) == bool(more)
        if "recipe" in values:
            assert values["recipe"] in ("fan2020-cifar-fast", "fast", "vit")


def test_the_scripts_at_full_size_take_their_options(tmp_path):
    runner = gpu.Runner(gpu.State(tmp_path), {"out": str(tmp_path), "device": "cpu"}, "cpu", 4, False, 0.0)
    scripts = [s for entry in book() for s in entry.steps if s.is_script]
    assert len(scripts) == 2
    for step in scripts:
        words = [w for w in runner._words(step) if w.startswith("--")]
        text = (ROOT / step.command).read_text()
        assert [w for w in words if f'"{w}"' not in text] == []
    training = import_module("training")
    assert set(scripts[0].options["options"].split(",")) <= set(training.OPTIONS)
