"""What is packed comes back."""

import json

import numpy as np

from whatwhere.lab.packed import (
    pack,
    pack_arrays,
    pack_maps,
    pack_scores,
    unpack,
    unpack_arrays,
    unpack_maps,
    unpack_scores,
)


def test_what_is_packed_comes_back():
    g = np.random.default_rng(0)
    hits, scores, maps = g.integers(0, 11, 500), g.standard_normal(200), g.random((2, 3, 5, 5))
    assert (unpack(json.loads(json.dumps(pack(hits)))) == hits).all()
    np.testing.assert_allclose(unpack_scores(pack_scores(scores)), scores, rtol=1e-7)
    seen = unpack_maps(json.loads(json.dumps(pack_maps(maps))))
    assert seen.shape == maps.shape
    np.testing.assert_allclose(seen, maps, rtol=1e-3)


def test_arrays_of_any_length_come_back_as_they_were():
    for arrays in ([[1.5, -2.0], [], [1 / 3]], [[1.0, 2.0], [3.0, 1e300]], [[0.1]], []):
        given = [np.array(a, float) for a in arrays]
        again = unpack_arrays(json.loads(json.dumps(pack_arrays(given))))
        assert [a.tolist() for a in again] == [a.tolist() for a in given]
