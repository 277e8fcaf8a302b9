"""A small extension of Jupyter's server: a panel that is still shown stays in the saved notebook.

JupyterLab saves the panels of the running kernel alone. Without this, a notebook that is opened the
next day, and saved, forgets its panels; opened once more, it says "model not found" instead.
`tools/install.py` switches it on.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"


def _states(notebook: dict[str, Any]) -> dict[str, Any]:
    """Model id -> state of each widget that `notebook` holds."""
    return notebook.get("metadata", {}).get("widgets", {}).get(STATE, {}).get("state", {})


def keep_panels(new: dict[str, Any], saved: dict[str, Any]) -> None:
    """Give each panel that `new` shows, and has no state for, its state in `saved`, in place.

    Args:
        new: the notebook that is about to be saved.
        saved: the same notebook as it lies on the disk.
    """
    outputs = [output for cell in new["cells"] for output in cell.get("outputs", [])]
    views = [output["data"][VIEW] for output in outputs if VIEW in output.get("data", {})]
    there, before, kept = _states(new), _states(saved), {}
    todo = [view["model_id"] for view in views]
    while todo:
        model = todo.pop()
        if model in before and model not in there and model not in kept:
            kept[model] = before[model]
            # What it is made of, its layout for one, is named in its state.
            todo += re.findall(r"IPY_MODEL_(\w+)", json.dumps(before[model]))
    if kept:
        new["metadata"]["widgets"] = {
            STATE: {**saved["metadata"]["widgets"][STATE], "state": {**there, **kept}}
        }


def _before_saving(model: dict[str, Any], path: str, contents_manager: Any, **_: Any) -> None:
    if model["type"] != "notebook":
        return
    try:
        saved = json.loads(Path(contents_manager.root_dir, path).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a new notebook, or one that cannot be read
        return
    if isinstance(saved, dict):
        keep_panels(model["content"], saved)


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "course_utils.panels.saving"}]


def _load_jupyter_server_extension(server: Any) -> None:
    server.contents_manager.register_pre_save_hook(_before_saving)
