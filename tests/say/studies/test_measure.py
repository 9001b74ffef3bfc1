"""What is measured behind a site, by loops."""

from collections import Counter, defaultdict

import numpy as np
import torch

from whatwhere.say.layer import layer_of
from whatwhere.say.studies.measure import cells, confusions, table_ceiling
from whatwhere.say.studies.speaker import Speaker

SITE = "middle"


def test_a_table_from_concepts_to_classes():
    g = np.random.default_rng(0)
    concepts = [g.integers(-1, 2, (n, 5, 4, 6)).astype(np.int8) for n in (9, 3)]
    labels = [torch.from_numpy(np.where(g.random((n, 4, 6)) < 0.1, 255, g.integers(0, 3, (n, 4, 6)))) for n in (9, 3)]
    labels[1][:, 0] = 3  # a class that is never trained on
    table, every = defaultdict(Counter), Counter()
    for i, y, x in np.ndindex(9, 4, 6):
        if (label := int(labels[0][i, y, x])) != 255:
            table[tuple(concepts[0][i, :, y, x])][label] += 1
            every[label] += 1
    expected = np.zeros((3, 4, 4), int)
    unknown = 0
    for i, y, x in np.ndindex(3, 4, 6):
        seen, label = table.get(tuple(concepts[1][i, :, y, x])), int(labels[1][i, y, x])
        unknown += seen is None
        counts = every if seen is None else seen
        if label != 255:
            expected[i, label, min(counts, key=lambda c: (-counts[c], c))] += 1
    assert unknown
    found = table_ceiling((concepts[0], labels[0]), (concepts[1], labels[1]), 4)
    assert found.tolist() == expected.tolist()


def test_edits_see_the_rows(said, features_of):
    speaker = Speaker(said.study, said.out, SITE)
    held, tail = features_of("test"), speaker.tail
    seen, expected = cells(tail, held, layer_of(speaker.module))
    own = confusions(tail, held, 10, edit=lambda maps, rows: seen.maps[rows])
    assert torch.equal(own, expected)
    assert torch.equal(confusions(tail, held, 10, rows=torch.tensor([6, 1])), expected[[6, 1]])
    assert not torch.equal(confusions(tail, held, 10, edit=lambda maps, _: maps * 0), expected)
