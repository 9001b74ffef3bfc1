"""Pictures without labels, or of one class, are refused by the name that they were given by."""

import pytest
import torch

from whatwhere.data import Split
from whatwhere.data.sources import Memory
from whatwhere.errors import InputError
from whatwhere.need.studies.labels import check_labels


def split(*classes: str) -> Split:
    labels = torch.arange(4) % len(classes) if classes else torch.full((4,), -1)
    return Split("test", Memory(torch.zeros(4, 3, 2, 2, dtype=torch.uint8)), labels, classes)


@pytest.mark.parametrize(("given", "name"), [("my/folder", "data='my/folder'"), (object(), "data")])
def test_what_has_no_accuracy_is_refused(given, name):
    with pytest.raises(InputError, match=f"^{name}: these pictures have no labels"):
        check_labels(given, split())
    with pytest.raises(InputError, match=f"^{name} has one class, 'a'"):
        check_labels(given, split("a"))
