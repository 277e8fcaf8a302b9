"""The house has floors: a module imports only from those below it."""

import ast
import pathlib

PACKAGE = pathlib.Path(__file__).parent.parent / "course_utils"
ORDER = [
    *("checks", "data", "masks", "batching", "sampling", "rows", "packed", "oracle"),
    *("invariance", "layers", "measure", "models", "training", "conventions"),
    *("tracing", "svg", "plots", "result_plots", "packed_plots", "mask_plots"),
    *("trace_plots", "policy_plots", "row_plots", "widgets", "mask_widgets", "trace_widgets"),
    *("policy_widgets", "row_widgets", "exercises"),
]


def imports(path: pathlib.Path) -> set[str]:
    """Names of all modules that a file imports, at the top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports are written in full"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {node.module} | names
    return found


def floor(path: pathlib.Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


FILES = [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"]


def test_every_module_has_its_place():
    assert {floor(path) for path in FILES} <= set(ORDER)


def test_a_module_imports_only_from_those_before_it():
    for path in FILES:
        inner = {name.split(".")[1] for name in imports(path) if name.startswith("course_utils.")}
        later = {name for name in inner if ORDER.index(name) > ORDER.index(floor(path))}
        assert not later, f"{path.name} imports {later}, which come after it"


def test_only_widgets_imports_ipywidgets():
    users = {
        path.name
        for path in FILES
        if any(name.split(".")[0] in ("ipywidgets", "anywidget") for name in imports(path))
    }
    assert users == {"widgets.py"}


def test_no_module_outgrows_300_lines():
    # The exercises are data and prose, and grow with the course.
    for path in FILES:
        if floor(path) != "exercises":
            assert len(path.read_text().splitlines()) <= 300, path.name
