"""Audits side by side, in one command."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from whatwhere.audits.comparison import Comparison
    from whatwhere.lab.study import AnyPath
else:  # what reads signatures at run time waits for no torch
    AnyPath = str


def compared(*folders: str, out: str | None = None, overwrite: bool = False) -> str:
    """Put audits side by side: what differs between networks for sure, and what is not shown to.

    Every audit is compared with the first. Where both saw the same pictures, the difference is taken picture by picture
    (paired), which is far narrower; where they did not, it is that of two independent numbers (unpaired), and the row
    says which. Sites of different networks are compared at the nearest depth, at most 10 points of the depth apart.
    Nothing is measured again. What one audit lacks is listed with the reason.

    Args:
        folders: that whatwhere audit wrote, two or more; the first is what the others are compared with.
        out: folder for result.json, table.csv and the page; nothing is written if not given.
        overwrite: replace files in `out` that this command did not write.

    Examples:
        $ whatwhere compare audit-before audit-after
        $ whatwhere compare audit-resnet18 audit-vgg16 audit-swin --out compared
    """
    from whatwhere.audits.said import text_table

    found = compare(*folders, out=out, overwrite=overwrite)
    leading = [line for line, row in zip(found.table(), found.rows, strict=True) if row.leads]
    page = [] if out is None else [f"open {os.path.join(out, 'index.html')}"]
    return "\n\n".join(filter(None, [text_table(leading), "\n".join([*found.sentences, *page])]))


def compare(*folders: AnyPath, out: AnyPath | None = None, overwrite: bool = False) -> Comparison:
    """Put audits side by side, each compared with the first.

    >>> found = ww.compare("audit-before", "audit-after", out="compared")
    >>> print(found.conclusion)

    Args:
        *folders: that `audit` wrote, two or more.
        out: folder for result.json, table.csv and the page; None writes nothing.
        overwrite: replace files in `out` that this function did not write.

    Raises:
        InputError: for folders that hold no finished audit, for the same one twice, and for an `out` that holds a
            study or one of the audits.
    """
    from whatwhere.audits.compared import comparison_of, refuse_out

    given: Any = folders
    found = comparison_of(given)
    if out is not None:
        refuse_out(out)
        found.save(out, overwrite=overwrite)
    return found
