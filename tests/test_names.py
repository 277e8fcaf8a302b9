"""A public name means one thing in the whole package."""

import ast
import pathlib
from collections import defaultdict

import course_utils

ROOT = pathlib.Path(course_utils.__file__).parent


def public_names(path):
    """The names that a module defines itself, those with an underscore aside."""
    for node in ast.parse(path.read_text()).body:
        targets = getattr(node, "targets", [getattr(node, "target", node)])
        for target in targets:
            name = getattr(target, "name", getattr(target, "id", "_"))
            if not isinstance(node, ast.Import | ast.ImportFrom) and not name.startswith("_"):
                yield name


def test_a_public_name_is_used_once():
    homes = defaultdict(list)
    for path in ROOT.rglob("*.py"):
        # What a learner writes in an exercise may be called as what the package calls it.
        if path.parent.name != "exercises":
            for name in set(public_names(path)):
                homes[name].append(str(path.relative_to(ROOT)))
    assert {name: found for name, found in homes.items() if len(found) > 1} == {}
    assert len(homes) > 100
