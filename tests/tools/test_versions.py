"""One set of versions, in pyproject.toml, constraints.txt, environment.yml and the workflow."""

import re
import subprocess
import sys
import tomllib

import doctor
import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = doctor.ROOT
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ALONE = [Requirement(line) for line in PROJECT["dependencies"]]
COURSE = [Requirement(line) for line in PROJECT["optional-dependencies"]["course"]]
RUNTIME = ALONE + COURSE
TEST = [Requirement(line) for line in PROJECT["optional-dependencies"]["test"]]
BENCH = [Requirement(line) for line in PROJECT["optional-dependencies"]["bench"]]
BENCH_PINS = "benchmarks/requirements.txt"
SITE = [Requirement(line) for line in PROJECT["optional-dependencies"]["site"]]


def exact(requirement: Requirement) -> str:
    """The version of a requirement that allows only one."""
    (pin,) = requirement.specifier
    assert pin.operator == "==" and "*" not in pin.version, f"{requirement} is not exact"
    return pin.version


def constraints(file: str = "constraints.txt") -> dict[str, Requirement]:
    lines = (ROOT / file).read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    named = {canonicalize_name(pin.name): pin for pin in pins}
    assert len(named) == len(pins), "a package is pinned twice"
    return named


def conda() -> tuple[list[str], dict[str, str]]:
    """The conda lines of environment.yml, and the pip pins: canonical name -> version."""
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (pip,) = [entry["pip"] for entry in dependencies if isinstance(entry, dict)]
    pins = [Requirement(line) for line in pip if not line.startswith("--")]
    lines = [entry for entry in dependencies if isinstance(entry, str)]
    return lines, {canonicalize_name(pin.name): exact(pin) for pin in pins}


@pytest.mark.parametrize("requirement", RUNTIME + TEST + SITE, ids=str)
def test_the_tested_version_is_in_the_range(requirement):
    pin = constraints()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(exact(pin))


@pytest.mark.parametrize("requirement", BENCH, ids=str)
def test_so_is_that_of_the_comparison(requirement):
    pins = constraints() | constraints(BENCH_PINS)
    assert requirement.specifier.contains(exact(pins[canonicalize_name(requirement.name)]))


def test_the_comparison_brings_no_other_version_of_what_the_course_has():
    """Its folder comes first on Python's path: a second torch there would be the one that runs."""
    bench, tested = constraints(BENCH_PINS), constraints()
    # What only the site needs may not be in .venv: the same version in both is no harm.
    assert all(exact(bench[name]) == exact(tested[name]) for name in bench.keys() & tested.keys())
    assert not {"torch", "numpy"} & bench.keys()
    assert all(exact(pin) for pin in bench.values())


def test_the_saved_comparison_is_of_these_versions():
    pins = constraints() | constraints(BENCH_PINS)
    saved = (ROOT / "benchmarks/README.md").read_text(encoding="utf-8")
    for name in ("torch", "numpy", "transformers", "lhotse"):
        assert re.search(rf"\b{name} {re.escape(exact(pins[name]))}[,.+]", saved), name


@pytest.mark.parametrize("requirement", RUNTIME + TEST + BENCH + SITE, ids=str)
def test_a_range_has_both_ends(requirement):
    operators = {part.operator for part in requirement.specifier}
    assert operators == {">=", "<"}


def test_constraints_are_exact_and_of_public_releases():
    for pin in constraints().values():
        assert "+" not in exact(pin), f"{pin}: a local build, which no index has"


def test_constraints_are_complete():
    """Whatever the course's dependencies bring here is pinned, and installed at its pin."""
    from importlib.metadata import distribution

    pins = constraints()
    todo = [(requirement, "") for requirement in RUNTIME + TEST + SITE]
    seen = set()
    while todo:
        requirement, extra = todo.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for wanted in ("", *requirement.extras):
            if (name, wanted) in seen:
                continue
            seen.add((name, wanted))
            # PyPI's torch for Linux brings CUDA, at the versions that torch itself names.
            if name.startswith(("nvidia-", "cuda-")) or name == "triton":
                continue
            assert name in pins, f"{name} is not in constraints.txt"
            found = distribution(name)
            assert found.version.partition("+")[0] == exact(pins[name]), name
            todo += [(Requirement(line), wanted) for line in found.requires or ()]
    assert len(seen) > 100


def test_the_package_alone_brings_torch_alone():
    """As installed: what `pip install` without an extra follows."""
    from importlib.metadata import distribution

    course = distribution("variable-length-batches")
    lines = [Requirement(line) for line in course.requires]
    assert [one.name for one in lines if not one.marker or one.marker.evaluate({"extra": ""})] == [
        "torch"
    ]
    extra = {one.name for one in lines if one.marker and one.marker.evaluate({"extra": "course"})}
    assert extra == {requirement.name for requirement in COURSE}


def test_the_oracle_needs_torch_alone():
    """In a Python where nothing of the extra [course] can be imported."""
    absent = sorted(requirement.name for requirement in COURSE)
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent}))\n"
        "import warnings; warnings.simplefilter('ignore')  # torch's own, on missing numpy\n"
        "from course_utils.testing import batch_invariance\n"
        "import torch\n"
        "samples = [torch.randn(length, 3) for length in (2, 5, 3, 4)]\n"
        "def collate(some):\n"
        "    return torch.nn.utils.rnn.pad_sequence(some, batch_first=True)\n"
        "print(batch_invariance(torch.nn.LSTM(3, 4, batch_first=True), samples, collate,\n"
        "    run=lambda model, batch: model(batch)[1][0][0]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "another order" in done.stdout


def test_environment_yml_has_the_tested_versions():
    _, pins = conda()
    tested = constraints()
    assert pins == {name: exact(tested[name]) for name in pins}


def test_environment_yml_has_what_the_course_needs_to_run():
    _, pins = conda()
    assert pins.keys() == {canonicalize_name(requirement.name) for requirement in RUNTIME}


def test_environment_yml_names_python_in_the_way_that_binder_reads():
    lines, _ = conda()
    assert lines == ["python=3.11", "pip"]


def test_binder_has_the_same_environment():
    # A copy: a link would be a text file in a Windows clone.
    assert not (ROOT / "binder/environment.yml").is_symlink()
    copy = (ROOT / "binder/environment.yml").read_bytes()
    assert copy == (ROOT / "environment.yml").read_bytes()


def test_every_place_means_the_same_pythons():
    supported = SpecifierSet(PROJECT["requires-python"])
    fitting = [minor for minor in range(30) if doctor.python_fits((3, minor))]
    assert fitting == [minor for minor in range(30) if supported.contains(f"3.{minor}.4")]

    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())
    runs = workflow["jobs"]["test"]["strategy"]["matrix"]["include"]
    assert all(supported.contains(f"{run['python']}.4") for run in runs)
    # Every system is tested on the Python of constraints.txt and Binder.
    for system in ("ubuntu-latest", "macos-latest"):
        assert "3.11" in [run["python"] for run in runs if run["os"] == system]

    makefile = (ROOT / "Makefile").read_text()
    for minor in fitting:
        assert f" python3.{minor} " in makefile


def test_the_citation_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]


def test_ruff_reads_the_oldest_python():
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]
    assert ruff["target-version"] == "py{}{}".format(*doctor.OLDEST)


def test_this_environment_is_a_tested_one():
    assert SpecifierSet(PROJECT["requires-python"]).contains(
        default_environment()["python_full_version"]
    )


def test_the_actions_of_the_workflows_are_pinned_by_commit():
    """A tag can be moved to other code; the comment says which one the commit had."""
    workflows = list((ROOT / ".github/workflows").glob("*.y*ml"))
    used = re.findall(r"\buses: *(.*)", "\n".join(file.read_text() for file in workflows))
    assert len(workflows) == 3 and len(used) >= 9
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+(\.\d+){2}", action), action
