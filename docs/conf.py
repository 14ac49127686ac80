"""How Sphinx builds the site: ``make docs``."""

from __future__ import annotations

from importlib.metadata import version as version_of

from sphinx.application import Sphinx

project = "Muster"
author = "The Muster authors"
release = version = version_of("muster-fleet")

extensions = ["myst_parser"]
root_doc = "README"
source_suffix = {".md": "markdown"}
# Links lead to headings as on the pages of a git forge.
myst_heading_anchors = 4
# CONTRIBUTING.md lies outside of this folder, and its links lead into it.
suppress_warnings = ["misc.highlighting_failure"]

html_theme = "furo"
html_title = "Muster"
html_copy_source = False

#: The site's contents; the pages themselves stay plain Markdown, as a git forge shows it.
_CONTENTS = {
    "README": [
        ("Tutorials", ["tutorials/first-run", "tutorials/first-hour", "tutorials/*"]),
        ("How-to guides", ["how-to/*"]),
        ("Reference", ["reference/*", "glossary"]),
        ("Explanation", ["architecture", "explanation/*", "decisions/README", "CONTRIBUTING"]),
    ],
    "decisions/README": [("Records", ["0*"])],
}


def _add_contents(app: Sphinx, docname: str, source: list[str]) -> None:
    for caption, pages in _CONTENTS.get(docname, ()):
        hidden = "" if docname != "README" else ":hidden:\n"
        source[0] += f"\n```{{toctree}}\n:caption: {caption}\n:glob:\n{hidden}\n" + "\n".join(pages) + "\n```\n"


def setup(app: Sphinx) -> None:
    """Add the contents to the pages that lead to others."""
    app.connect("source-read", _add_contents)
