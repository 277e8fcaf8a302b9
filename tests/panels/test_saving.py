"""A panel that is still shown stays in the saved notebook, and no other."""

import copy
import json
from types import SimpleNamespace

import pytest

from course_utils.panels import saving
from course_utils.panels.saving import STATE, VIEW, keep_panels


def notebook(shown, states):
    views = [{"data": {VIEW: {"model_id": name}, "text/html": "<img>"}} for name in shown]
    cells = [{"cell_type": "markdown"}, {"cell_type": "code", "outputs": [{"name": "x"}, *views]}]
    state = {name: {"state": {"layout": f"IPY_MODEL_{layout}"}} for name, layout in states.items()}
    state |= {layout: {"state": {"width": "9px"}} for layout in states.values()}
    widgets = {STATE: {"state": state, "version_major": 2, "version_minor": 0}}
    return {"cells": cells, "metadata": {"widgets": widgets, "language_info": {}}}


def kept(new):
    return new["metadata"]["widgets"][STATE]["state"]


def test_a_panel_that_is_shown_keeps_its_state_and_its_layout():
    saved = notebook(["a", "b"], {"a": "a1", "b": "b1"})
    new = notebook(["a", "b"], {"b": "b2"})
    keep_panels(new, saved)
    assert kept(new).keys() == {"a", "a1", "b", "b2"}
    assert kept(new)["b"]["state"]["layout"] == "IPY_MODEL_b2"


def test_opened_and_saved_again_it_is_the_same_notebook():
    saved = notebook(["a"], {"a": "a1"})
    new = notebook(["a"], {})
    keep_panels(new, saved)
    assert new == saved
    del new["metadata"]["widgets"]
    keep_panels(new, saved)
    assert new == saved


def test_a_panel_that_is_no_longer_shown_goes():
    new = notebook(["b"], {"b": "b1"})
    before = copy.deepcopy(new)
    keep_panels(new, notebook(["a"], {"a": "a1"}))
    assert new == before


@pytest.mark.parametrize("there", [None, "{ half a fi", "[]"])
def test_what_cannot_be_read_stops_no_saving(tmp_path, there):
    if there:
        (tmp_path / "a.ipynb").write_text(there)
    new = notebook(["a"], {})
    hooks = []
    manager = SimpleNamespace(root_dir=str(tmp_path), register_pre_save_hook=hooks.append)
    saving._load_jupyter_server_extension(SimpleNamespace(contents_manager=manager))
    (hook,) = hooks
    hook(model={"type": "notebook", "content": new}, path="a.ipynb", contents_manager=manager)
    assert kept(new) == {}
    (tmp_path / "a.ipynb").write_text(json.dumps(notebook(["a"], {"a": "a1"})))
    hook(model={"type": "notebook", "content": new}, path="a.ipynb", contents_manager=manager)
    assert kept(new).keys() == {"a", "a1"}
    hook(model={"type": "file", "content": ""}, path="a.txt", contents_manager=manager)
