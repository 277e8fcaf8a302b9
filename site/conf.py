"""Sphinx's settings for the course as a static site; tools/build_site.py calls Sphinx with them."""

import os

project = "Variable-Length Batches in PyTorch"
author = "The Variable-Length Batches in PyTorch contributors"
html_title = project
language = "en"

extensions = ["myst_nb"]
# The outputs are the saved ones: what a reader sees here is what the tests compare.
nb_execution_mode = "off"
myst_heading_anchors = 3
# require.js, the front end of ipywidgets, and where to find anywidget: all of them in the site.
nb_ipywidgets_js = {
    "widgets/require.js": {},
    "widgets/paths.js": {},
    "widgets/embed-amd.js": {},
}

html_theme = "sphinx_book_theme"
html_static_path = ["_static"]
html_extra_path = ["extra"]
html_css_files = ["site.css"]
html_favicon = "_static/favicon.svg"
html_copy_source = True
repository = os.environ["SITE_REPOSITORY"]
html_theme_options = {
    "repository_url": f"https://github.com/{repository}",
    # A commit that every repository has, whatever its branch is called.
    "repository_branch": "HEAD",
    "launch_buttons": {"binderhub_url": "https://mybinder.org", "notebook_interface": "jupyterlab"},
    "use_download_button": True,
    # The sidebar has a search field already.
    "navbar_persistent": [],
    "show_toc_level": 2,
}
# Without it the theme logs an error at a reader's first visit.
html_context = {"default_mode": "auto"}
