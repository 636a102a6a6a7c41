"""How the documentation is built; warnings are errors (see the Makefile)."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "tacit"
copyright = "the tacit contributors"
version = release = version_of("tacit")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    # Our own, in docs/_extensions:
    "public_names",  # the reference, and the check that no public name is missing from it
    "signatures",  # signatures and fields in the words of the source
    "commands",  # the commands of `tacit`, read from the program
    "error_codes",  # the check that docs/errors.md and the source agree
]

exclude_patterns = ["_build", "_extensions"]
nitpicky = True  # a reference to nothing is a warning
suppress_warnings = ["myst.header"]  # the generated parts begin below the first level

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
toc_object_entries_show_parents = "hide"
add_module_names = False

html_theme = "furo"
html_title = f"tacit {version}"
html_static_path = ["_static"]
html_css_files = ["tacit.css"]
html_show_sphinx = False
html_copy_source = False
