"""Parts of objects as concepts, where only the parts that an object may have are known to be absent (Broden+)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from whatwhere.label_maps import IGNORE
from whatwhere.say.concepts import ABSENT, PRESENT, UNLABELLED, label_map


class ListedParts:
    """Parts as concepts: absent where another part is, or where the object has none but might have had this one."""

    def __init__(self, parts: Sequence[str], lists: Tensor) -> None:
        """Take the part names (P) and which parts each object may have (O, P)."""
        self.names, self.lists = tuple(f"part: {name}" for name in parts), lists

    def __call__(self, picture: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """(P, H, W) from the maps `part` and `object`.

        Raises:
            InputError: a map is missing, of another size, or holds an unknown value.
        """
        parts, none = label_map(picture, labels, "part", len(self.names) + 1), len(self.names)
        objects = label_map(picture, labels, "object", len(self.lists) + 1)
        scope = torch.zeros(len(self.lists) + 2, len(self.names), dtype=torch.bool)
        scope[: len(self.lists)] = self.lists
        rows = torch.where(objects == IGNORE, len(self.lists), objects - (objects > IGNORE).long())
        absent = (parts < none) | ((parts == none) & scope[rows].movedim(-1, 0))
        maps = torch.where(absent, ABSENT, UNLABELLED).to(torch.int8)
        return maps.masked_fill_(parts == torch.arange(none).view(-1, 1, 1), PRESENT)
