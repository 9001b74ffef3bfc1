"""Concepts of a pixel: where a named property is present, absent, or was not labelled.

A label map says one thing of each pixel; a concept source turns a picture and its label maps into one map for each
concept, with three values. Where nothing was annotated a concept is neither present nor absent: such pixels enter no
loss and no count.

Source: the concepts of semantic bottlenecks [losch2019], which come from partial labels (Broden+, see
`whatwhere.say.studies.broden`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from whatwhere.errors import InputError, unknown
from whatwhere.label_maps import CLASS, IGNORE

PRESENT, ABSENT, UNLABELLED = 1, 0, -1


class ConceptSource(Protocol):
    """Where concepts are in a picture.

    >>> source(picture, {"class": classes}).shape      # (K, H, W) for a picture of (3, H, W)
    """

    names: tuple[str, ...]

    def __call__(self, picture: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """The maps of the K concepts.

        Args:
            picture: (3, H, W), uint8.
            labels: label maps by name, (H, W) each, whole numbers; `IGNORE` (255) is not labelled.

        Returns:
            (K, H, W) int8: 1 present, 0 absent, -1 not labelled.
        """
        ...


class Merged:
    """Classes merged into concepts, such as vehicle = car, bus, truck.

    >>> Merged({"vehicle": ("car", "bus")}, ("road", "car", "bus")).names      # ("vehicle",)
    """

    def __init__(self, groups: Mapping[str, Sequence[str]], classes: Sequence[str], map: str = CLASS) -> None:
        """Name the groups.

        Args:
            groups: the classes of each concept, by the concept's name; a class may be in several.
            classes: the name of each value of the label map.
            map: the name of the label map.

        Raises:
            InputError: no group, an empty one, or a class that `classes` does not have.
        """
        if not isinstance(groups, Mapping):
            raise InputError(
                f'groups={groups!r}: give the classes of each concept, such as {{"vehicle": ["car", "bus"]}}.'
            )
        self.names, self.classes, self.map = tuple(groups), tuple(classes), map
        for name, members in groups.items():
            _check_list(f"groups[{name!r}]", members)
        self.groups = {name: tuple(dict.fromkeys(members)) for name, members in groups.items()}
        if not self.groups:
            raise InputError('groups is empty; give at least one, such as {"vehicle": ["car", "bus"]}.')
        for name, members in self.groups.items():
            self._check(name, members)
        member = [[c in members for c in self.classes] for members in self.groups.values()]
        self._member = torch.tensor(member).to(torch.int8)  # (K, C)

    def _check(self, name: str, members: Sequence[str]) -> None:
        if not members:
            raise InputError(f"groups[{name!r}] is empty; give some of {', '.join(self.classes)}.")
        for member in members:
            if member not in self.classes:
                raise unknown(f"groups[{name!r}]", member, self.classes)

    def __call__(self, picture: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """(K, H, W): present where the pixel's class is in the group.

        Raises:
            InputError: the label map is missing, has another size than the picture, or holds a value without a name.
        """
        values = label_map(picture, labels, self.map, len(self.classes))
        unlabelled = torch.full((len(self.names), 1), UNLABELLED, dtype=torch.int8)
        table = torch.cat([self._member, unlabelled], dim=1)
        values = torch.where(values == IGNORE, len(self.classes), values)
        return table[:, values]


class Named:
    """One concept for each value of a label map, such as the parts of objects.

    >>> Named(("wheel", "window")).names      # ("part: wheel", "part: window")
    """

    def __init__(self, names: Sequence[str], map: str = "part", ignore: int = IGNORE) -> None:
        """Name the values.

        Args:
            names: a name for each value of the label map, from 0.
            map: the name of the label map; it precedes the concepts' names.
            ignore: the value of pixels that are not labelled.

        Raises:
            InputError: no name, or one twice.
        """
        _check_list("names", names)
        self.labels, self.map, self.ignore = tuple(names), map, ignore
        self.names = distinct(tuple(f"{map}: {name}" for name in names), "names")

    def __call__(self, picture: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """(K, H, W): present where the map has the concept's value.

        Raises:
            InputError: as for `Merged`.
        """
        values = label_map(picture, labels, self.map, len(self.labels), self.ignore)
        there = values == torch.arange(len(self.names)).view(-1, 1, 1)
        return there.to(torch.int8).masked_fill_(values == self.ignore, UNLABELLED)


class Combined:
    """The concepts of several sources, one after the other."""

    def __init__(self, sources: Sequence[ConceptSource]) -> None:
        """Join sources.

        Args:
            sources: at least one; no two concepts may have the same name.

        Raises:
            InputError: no source, or a name twice.
        """
        self.sources = tuple(sources)
        self.names = distinct(tuple(name for source in self.sources for name in source.names), "sources")

    def __call__(self, picture: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """(K, H, W): the maps of all sources.

        Raises:
            InputError: as the sources raise it.
        """
        return torch.cat([source(picture, labels) for source in self.sources])


class Selected:
    """Some concepts of a source; `whatwhere.say.concept_counts.select` chooses them."""

    def __init__(self, source: ConceptSource, names: Sequence[str]) -> None:
        """Keep concepts by name.

        Raises:
            InputError: no name, one twice, or one that the source does not have.
        """
        _check_list("names", names)
        for name in names:
            if name not in source.names:
                raise unknown("names", name, source.names)
        self.source, self.names = source, distinct(tuple(names), "names")
        self._rows = torch.tensor([source.names.index(name) for name in self.names])

    def __call__(self, picture: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """(K, H, W): the maps of the concepts kept, in their order."""
        return self.source(picture, labels)[self._rows]


def _check_list(argument: str, names: object) -> None:
    """A text is a sequence, too, of letters."""
    if isinstance(names, str) or not isinstance(names, Sequence) or not all(isinstance(n, str) for n in names):
        raise InputError(f"{argument}={names!r}: give a list of names, such as ['car', 'bus'].")


def distinct(names: tuple[str, ...], argument: str) -> tuple[str, ...]:
    """The names, if there are any and all differ.

    Raises:
        InputError: otherwise; it names the first one that appears twice.
    """
    if not names:
        raise InputError(f"{argument} is empty; give at least one concept.")
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise InputError(f"{argument}: the concept {twice!r} appears twice; rename or drop one.")
    return names


def label_map(picture: Tensor, labels: Mapping[str, Tensor], map: str, named: int, ignore: int = IGNORE) -> Tensor:
    """One label map, checked.

    Args:
        picture: (3, H, W).
        labels: label maps by name.
        map: which one.
        named: its values are 0..named - 1, and `ignore`.
        ignore: the value of pixels that are not labelled.

    Returns:
        (H, W), int64.

    Raises:
        InputError: there is no such map, it has another size than the picture, or a value without a name.
    """
    if map not in labels:
        raise unknown("map", map, labels)
    values = labels[map].long()
    if values.shape != picture.shape[-2:]:
        raise InputError(
            f"the label map {map!r} is {tuple(values.shape)} (H, W), its picture {tuple(picture.shape[-2:])}; give "
            "maps of the picture's size."
        )
    if labels[map].is_floating_point():
        raise InputError(f"the label map {map!r} holds {labels[map].dtype}; give whole numbers.")
    wrong = ((values < 0) | (values >= named)) & (values != ignore)
    if bool(wrong.any()):
        raise InputError(
            f"the label map {map!r} holds {int(values[wrong][0])}, but {named} values are named (0..{named - 1}) and "
            f"{ignore} is not labelled; name them all, or mend the map."
        )
    return values


def copies_of_classes(source: ConceptSource, classes: Sequence[str], map: str = CLASS) -> dict[str, str]:
    """Concepts that are a class of the task under another name: a bottleneck of them explains nothing.

    Found from how the source is made, without any picture: a concept that merges exactly one class of the task's own
    label map, or all but one (its absence then names the class). A concept from another map may still coincide with
    a class in the pictures at hand: see `ConceptCounts.copies`.

    Args:
        source: `Merged`, `Named`, and `Combined` or `Selected` of them; any other source reads no class map.
        classes: the task's classes.
        map: the task's label map.

    Returns:
        The class of each such concept, by the concept's name.
    """
    if isinstance(source, Combined):
        return {k: v for part in source.sources for k, v in copies_of_classes(part, classes, map).items()}
    if isinstance(source, Selected):
        return {k: v for k, v in copies_of_classes(source.source, classes, map).items() if k in source.names}
    copied = {name: _one_class(members, classes) for name, members in _class_groups(source, map).items()}
    return {name: copied_class for name, copied_class in copied.items() if copied_class is not None}


def _class_groups(source: ConceptSource, map: str) -> dict[str, tuple[str, ...]]:
    if isinstance(source, Merged) and source.map == map:
        return source.groups
    if isinstance(source, Named) and source.map == map:
        return {name: (label,) for name, label in zip(source.names, source.labels, strict=True)}
    return {}


def _one_class(members: Sequence[str], classes: Sequence[str]) -> str | None:
    inside = [c for c in classes if c in members]
    outside = [c for c in classes if c not in members]
    return next((only[0] for only in (inside, outside) if len(only) == 1), None)
