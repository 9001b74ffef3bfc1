"""Features of a site, and the concepts at their cells."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from whatwhere.data import scenes as scenes_file
from whatwhere.data.scenes import SceneSplit
from whatwhere.data.sources import Memory
from whatwhere.errors import InputError
from whatwhere.say.studies.concept_spec import concepts_of
from whatwhere.say.studies.features import held_at, site_features

SITE = "middle"


def test_concepts_of_one_name_and_two_meanings_are_kept_apart(said, tmp_path):
    found = []
    for members in (["car"], ["car", "road", "building"]):
        spec = {"merged": {"thing": members}}
        source = concepts_of(spec, said.scenes)
        found.append(site_features(said.net, SITE, said.scenes.test, source, spec, tmp_path))
    assert not np.array_equal(found[0].targets, found[1].targets)
    assert len(list((tmp_path / "features").glob("test-*.npy"))) == 5  # the features once, two arrays of concepts twice


def test_features_of_pictures_that_changed_since_are_made_anew(said, tmp_path, monkeypatch):
    """Also where the fingerprint reads others."""
    monkeypatch.setattr(scenes_file, "SAMPLED", 2)  # the first and the last
    test, source = said.scenes.test, concepts_of(said.concepts, said.scenes)
    pictures = torch.stack([picture for picture, _ in test.rows()])
    pictures[1] = 255 - pictures[1]
    changed = SceneSplit(test.name, Memory(pictures), test.maps, test.classes, test.groups, test.values)
    same = SceneSplit(test.name, test.pictures, test.maps, test.classes, test.groups, test.values)
    assert changed.fingerprint == same.fingerprint
    held = [site_features(said.net, SITE, s, source, said.concepts, tmp_path) for s in (same, changed)]
    rows = [torch.equal(held[0].at(torch.tensor([row])), held[1].at(torch.tensor([row]))) for row in range(3)]
    assert rows == [True, False, True]
    assert [h.contents for h in held] == [same.contents, changed.contents]


def test_features_are_those_of_the_site_before_what_follows_rewrites_them(said):
    picture = said.net.preprocessing.normalise(said.scenes.test[0][0][None])
    net = said.net.module
    with torch.no_grad():
        expected = net.head[1](net.head[0](net.middle(net.front(picture))))  # a ReLU in place comes next
        assert torch.equal(held_at(net, "head.1", picture), expected)
    assert (expected < 0).any()


def test_features_beyond_half_precision_are_refused(said, tmp_path):
    import copy

    net = replace(said.net, module=copy.deepcopy(said.net.module))
    net.module.middle[1].weight.data.mul_(1e7)
    source = concepts_of(said.concepts, said.scenes)
    with pytest.raises(InputError, match="beyond 65504"):
        site_features(net, SITE, said.scenes.test, source, said.concepts, tmp_path)
    assert not list((tmp_path / "features").glob("*.npy"))


def test_true_maps_stand_where_concepts_are_said(said, features_of):
    held = features_of("test", "truth")
    shares = held.shares_at(torch.arange(len(held)))
    assert torch.equal(held.at(torch.arange(len(held))), shares.clamp_min(0))
    assert (shares == -1).any()
