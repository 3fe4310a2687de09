"""Sphinx's settings. `make docs` builds the site; every warning is an error."""

import importlib.util
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent), str(DOCS / "_ext")]

project = "fedjax_private"
author = "The fedjax_private authors"
copyright = "The fedjax_private authors"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "command_help",
    "docstrings",
    "entries",
    "reference",
    "repository",
    "signatures",
]
exclude_patterns = ["_build", "_ext"]
html_theme = "furo"
html_title = "fedjax_private"
html_static_path = ["_static"]
html_css_files = ["site.css"]

# Links: a page or heading that does not exist is a warning.
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 4
nitpicky = True
_THEIRS = (
    "abc|collections|concurrent|contextlib|enum|flax|functools|jax|jaxlib|np|npt|numpy"
    "|optax|os|pathlib|scipy|types|typing"
)
nitpick_ignore_regex = [
    # Types of other projects: nothing is fetched while building, so no page is known.
    ("py:.*", rf"({_THEIRS})\..*"),
    # Types that signatures name but no package exports, and type variables.
    ("py:class", r"fedjax_private\.\w+\.\w+\..*|.*\._?[A-Z]"),
    # Names between backquotes are links where they name something, and code elsewhere.
    ("py:obj", "(?s).*"),
]

# Docstrings.
default_role = "py:obj"
autosummary_generate = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_custom_sections = ["Formal guarantees"]
smartquotes = False

# Notebooks run at every build, from an empty state.
nb_execution_mode = "force"
nb_execution_timeout = 300  # seconds a cell
nb_execution_raise_on_error = True
nb_merge_streams = True
if importlib.util.find_spec("openfhe") is None:
    nb_execution_excludepatterns = ["notebooks/one_round.md", "notebooks/own_data.md"]
