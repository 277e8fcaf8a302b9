"""Binder builds what is meant. repo2docker exits 0 on a folder that it misread: read its answer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def dockerfile():
    """What repo2docker prints for this repository: the Dockerfile, and its log."""
    script = Path(sys.executable).with_name("jupyter-repo2docker")
    command = [sys.executable, str(script), "--no-build", "--debug", "."]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done


def test_the_environment_is_ours(dockerfile):
    assert 'env update -p ${NB_PYTHON_PREFIX} --file "binder/environment.yml"' in dockerfile.stdout
    assert "python=3.11" in dockerfile.stderr


def test_post_build_is_run(dockerfile):
    assert "RUN ./binder/postBuild" in dockerfile.stdout


def test_a_session_starts_through_ours(dockerfile):
    assert 'R2D_ENTRYPOINT="${REPO_DIR}/binder/start"' in dockerfile.stdout


@pytest.mark.skipif(os.name == "nt", reason="Windows has no bash to run it")
def test_start_hands_on_and_keeps_torch_to_one_thread():
    command = [str(ROOT / "binder/start"), "sh", "-c", "echo $OMP_NUM_THREADS $0", "handed on"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "1 handed on\n"


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps no such bit; git does")
def test_post_build_can_be_run():
    assert os.access(ROOT / "binder/postBuild", os.X_OK)
    subprocess.run(["bash", "-n", ROOT / "binder/postBuild"], check=True)


def test_post_build_names_what_there_is():
    lines = (ROOT / "binder/postBuild").read_text().splitlines()
    assert "set -e" in lines
    assert any(line.endswith("-c constraints.txt -e '.[course]'") for line in lines)
    assert "python tools/install.py --lab-settings" in lines


def test_binder_needs_nothing_that_only_this_machine_has():
    pip = yaml.safe_load((ROOT / "binder/environment.yml").read_text())["dependencies"][-1]["pip"]
    options = [line for line in pip if line.startswith("-")]
    assert options == ["--extra-index-url https://download.pytorch.org/whl/cpu"]
