"""Configuration of the documentation site, which scripts/docs builds."""

from sphinx.application import Sphinx

from speechmlp import __version__

project = "speechmlp"
version = release = __version__.partition("+")[0]
project_copyright = "the authors of speechmlp, MIT licence"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = "speechmlp"
html_copy_source = False
exclude_patterns = ["_build"]
highlight_language = "none"  # of blocks that do not name their language
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
default_role = "code"  # docstrings put code in single backticks, as Markdown does
napoleon_use_rtype = False


INCLUDED = {
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "data/README.md": "data.md",
    "src/speechmlp/weights/README.md": "model_card.md",
}
"""Documents outside this folder -> pages that include them. Links name the documents, which works in files too."""


def _prepare(_: Sphinx, page: str, source: list[str]) -> None:
    """Links to pages instead of documents outside this folder."""
    up = "../" * page.count("/")
    for document, included in INCLUDED.items():
        source[0] = source[0].replace(f"](../{up}{document}", f"]({up}{included}")


def setup(app: Sphinx) -> None:
    """Registers what is done to pages before they are read."""
    app.connect("source-read", _prepare)
