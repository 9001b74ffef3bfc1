"""What a notebook shows of a table: some sentences and its first rows, in the notebook's own colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2

MOST = 30  # rows
# No colour is fixed, not even a border's, so that it is read on a light and on a dark ground.
TEXT = """<div style="color: inherit">
{% for line in lines if line %}<p>{{ line }}</p>
{% endfor %}<div style="overflow-x: auto"><table style="color: inherit">
<thead><tr>{% for name in names %}<th style="text-align: left">{{ name }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in rows %}<tr>
{%- for name in names %}<td style="text-align: left">{{ row.get(name) | shown }}</td>{% endfor %}</tr>
{% endfor %}</tbody>
</table></div>
{% if left %}<p>The first {{ rows | length }} of {{ rows | length + left }} rows; {{ whole }} has all.</p>
{% endif %}{% if ending %}<p>{{ ending }}</p>
{% endif %}</div>"""


def as_html(lines: Sequence[str], rows: Sequence[Mapping[str, Any]], *, whole: str, ending: str = "") -> str:
    """Paragraphs and a table as HTML; every text in it is escaped.

    Args:
        lines: above the table, a paragraph each.
        rows: values by column, the first 30 of which are shown; what a row lacks is blank.
        whole: where all rows are, if there are more, such as ".table()".
        ending: below the table.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    parts = {"lines": lines, "names": names, "rows": rows[:MOST], "left": len(rows[MOST:]), "whole": whole}
    return _template().render(ending=ending, **parts)


@cache
def _template() -> jinja2.Template:
    import jinja2

    environment = jinja2.Environment(autoescape=True)
    environment.filters["shown"] = lambda value: "" if value is None else str(value)
    return environment.from_string(TEXT)
