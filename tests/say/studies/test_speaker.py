"""A finished network, opened again."""

from dataclasses import replace

import pytest
import torch

from whatwhere.errors import InputError
from whatwhere.say.studies.explain import explain
from whatwhere.say.studies.intervene import intervened
from whatwhere.say.studies.speaker import Speaker, checked_rows

SITE, ROW = "middle", 3


def test_what_is_said_rests_on_the_maps(speaker):
    found = speaker.rested(speaker.said.maps[:2])
    assert torch.equal(found.argmax(1), speaker.said.said[:2])
    torch.testing.assert_close(found, speaker.said.scores[:2].log_softmax(1), atol=1e-4, rtol=1e-4)


def test_rows_are_checked():
    assert checked_rows([2, 0, 2], 3) == [2, 0]
    for wrong in ([], [3], [-1]):
        with pytest.raises(InputError, match=r"^picture.* from 0 to 2"):
            checked_rows(wrong, 3, "picture")


def test_weights_may_lie_elsewhere(said, tmp_path):
    for name in ("study.json", *(f"cells/{f.name}" for f in (said.out / "cells").iterdir())):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((said.out / name).read_bytes())
    found = intervened(Speaker(said.study, tmp_path, weights_folder=said.out), ROW, {"place: lower": 1.0})
    assert found.changed == intervened(Speaker(said.study, said.out), ROW, {"place: lower": 1.0}).changed


def test_a_bottleneck_that_is_not_trained_is_named(said):
    with pytest.raises(
        InputError, match=r"site='head': .* \(trained are those at middle\); run `whatwhere say compare`"
    ):
        explain(said.study, said.out, "head")


def test_a_folder_of_another_study_is_refused(said, tmp_path):
    with pytest.raises(InputError, match=r"holds no comparison of bottlenecks; run `whatwhere say compare` first"):
        explain(said.study, tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="holds another study"):
        explain(replace(said.study, epochs=3), said.out)


@pytest.mark.slow
def test_of_several_sites_one_must_be_chosen(said, tmp_path, no_figures):
    study = replace(said.study, sites=("middle", "front"), concepts={"positions": True}, kinds=("ssb",), epochs=1)
    study.run(tmp_path, quiet=True)
    with pytest.raises(InputError, match="site: there are bottlenecks at front, middle; choose one"):
        Speaker(study, tmp_path).cell.key  # noqa: B018
    assert Speaker(study, tmp_path, "front").place == "front"
