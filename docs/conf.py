"""How Sphinx builds these pages: `sphinx-build -W docs docs/_build`."""

from importlib.metadata import version as version_of
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

project = "mbexec"
author = "the mbexec developers"
project_copyright = "the mbexec developers"
version = release = version_of("mbexec")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
smartquotes = False
nitpicky = True
# Types of other packages, which have no pages here, and what is private.
nitpick_ignore_regex = [
    (
        "py:.*",
        r"(numpy|np|NDArray|qcelemental|qcmanybody|psutil|threading|multiprocessing|collections|pathlib|mbexec\.core|mbexec\.graph\.\w+\.|StateT|Reducer|Memo)\b.*",
    ),
    ("py:.*", r"ManyBodyInput|ManyBodyResult|FailedOperation"),
]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"

html_theme = "alabaster"
html_theme_options = {
    "description": "Many-body expansions of molecular clusters, run in parallel",
    "fixed_sidebar": True,
    "page_width": "1240px",
    "sidebar_width": "230px",
    "font_size": "16px",
}
html_sidebars = {"**": ["about.html", "searchfield.html", "navigation.html"]}
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_show_sourcelink = False
html_math_renderer = "mathml"


def _inline(self: Any, node: nodes.math) -> None:
    self.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def _block(self: Any, node: nodes.math_block) -> None:
    self.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def _sections(*given: Any) -> None:
    """Numpydoc's sections as they stand: a heading and a definition list, shapes and units left alone."""
    lines: list[str] = given[-1]
    for place in range(len(lines) - 2, -1, -1):
        heading, rule = lines[place : place + 2]
        if heading and rule == "-" * len(heading):
            lines[place : place + 2] = [f".. rubric:: {heading}", ""]
        elif heading.startswith("*"):
            lines[place] = heading.replace("*", r"\*")


def setup(app: Sphinx) -> None:
    """Write formulas as MathML, which browsers show without a script from elsewhere; read numpydoc."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.connect("autodoc-process-docstring", _sections)
