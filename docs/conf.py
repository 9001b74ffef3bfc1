"""The site: `make docs`. Sphinx reads the whole repository's Markdown, so that links between files hold there, too."""

import sys
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import written  # noqa: E402

from whatwhere import __version__  # noqa: E402

project = "whatwhere"
author = "the authors of whatwhere"
release = version = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

# The source folder is the repository's root (`sphinx-build -c docs . docs/_build/html`).
root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "src/**/README.md",
    "reproductions/**README.md",
    "benchmarks/README.md",
    "benchmarks/results/*.md",
]
ROOMS = ("docs", "src", "reproductions", "benchmarks")
exclude_patterns = [
    ".*",
    "**/_build",
    *(f.name for f in HERE.parent.iterdir() if f.is_dir() and f.name not in ROOMS),
]
nitpicky = True
# What other projects define is described by none of the pages here; whatwhere's own insides are not in the reference.
nitpick_ignore_regex = [(r"py:.*", r".*")]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # a card may begin with any heading
nb_execution_mode = "force"
nb_execution_timeout = 120
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_merge_streams = True

default_role = "literal"
smartquotes = False
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"whatwhere {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
pygments_style = "friendly"
pygments_dark_style = "monokai"


def _written(app: Sphinx, name: str, source: list[str]) -> None:
    source[0] = written.page(name, source[0])


def _beside(app: Sphinx, failure: Exception | None) -> None:
    """Write the pages of the gallery's audits, and lead from the folder's top to the first page."""
    if failure or app.builder.format != "html":
        return
    out = Path(app.outdir)
    (out / "index.html").write_text(
        '<!doctype html><meta charset="utf-8"><title>whatwhere</title>'
        '<meta http-equiv="refresh" content="0; url=docs/index.html"><a href="docs/index.html">whatwhere</a>\n',
        encoding="utf-8",
    )
    for audit in written.audits():
        there = out / "docs" / "gallery" / audit.name
        there.mkdir(parents=True, exist_ok=True)
        (there / "audit.html").write_text(audit.page(), encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Register what is written during the build."""
    app.connect("source-read", _written)
    app.connect("build-finished", _beside)
