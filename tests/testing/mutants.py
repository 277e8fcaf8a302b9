"""Does a change of one place in the oracle fail its tests?

`python -m tests.testing.mutants 40` tries 40 such changes, drawn at random; each that survives is
printed with its lines. It takes a minute or so for each that does.
"""

import argparse
import ast
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

from tests.exercises.mutations import _trees as changes

ROOT = pathlib.Path(__file__).parents[2]
FILES = ("core", "alone", "invariance", "adapters")
TESTS = (
    *("test_report", "test_core", "test_alone", "test_adapters", "test_trust", "test_invariance"),
)


def _bare(tree: ast.Module) -> ast.Module:
    """Take away what no test can see: annotations and docstrings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant("")
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Module)):
            node.body = [
                one
                for one in node.body
                if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))
            ] or [ast.Pass()]
            if isinstance(node, ast.FunctionDef):
                node.returns = None
    return tree


def mutants(name: str) -> list[tuple[str, str, str]]:
    """Return (file, what changed, source) for each change of one place in a file."""
    tree = _bare(ast.parse((ROOT / f"course_utils/testing/{name}.py").read_text()))
    right, found = ast.unparse(tree), {}
    for _ in changes(tree):
        source = ast.unparse(ast.fix_missing_locations(tree))
        try:
            compile(source, name, "exec")
        except SyntaxError:
            continue
        old, new = right.splitlines(), source.splitlines()
        lines = [f"- {one.strip()}" for one in old if one not in new]
        lines += [f"+ {one.strip()}" for one in new if one not in old]
        if source != right:
            found["\n".join(lines)] = source
    return [(name, what, source) for what, source in found.items()]


def survives(name: str, source: str) -> bool:
    """Say whether all tests of the oracle pass with that source."""
    with tempfile.TemporaryDirectory() as folder:
        for one in ("course_utils", "tests"):
            ignored = shutil.ignore_patterns("__pycache__", "screenshots", "browser")
            shutil.copytree(ROOT / one, f"{folder}/{one}", ignore=ignored)
        shutil.copy(ROOT / "pyproject.toml", folder)
        pathlib.Path(f"{folder}/course_utils/testing/{name}.py").write_text(source)
        files = [f"tests/testing/{one}.py" for one in TESTS]
        command = [sys.executable, "-m", "pytest", "-qx", "-p", "no:cacheprovider", *files]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, timeout=600)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    every = [one for name in FILES for one in mutants(name)]
    chosen = random.Random(given.seed).sample(every, given.count)
    alive = 0
    for number, (name, what, source) in enumerate(chosen, 1):
        if survives(name, source):
            alive += 1
            print(f"{name}.py survives:\n{what}\n", flush=True)
        print(f"{number - alive} of {number} found, of {len(every)} in all", flush=True)


if __name__ == "__main__":
    main()
