"""A real JupyterLab, and a real Chromium that opens it."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request

import build_site
import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent
NAMES = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
SCREENSHOTS = pathlib.Path(__file__).parent / "screenshots"
TOKEN = "for-this-test-only"
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
# Of each panel: its name, who draws, and milliseconds from key presses to the change.
DELAYS = pytest.StashKey[list[tuple[str, str, list[float]]]]()


def pytest_configure(config):
    config.stash[DELAYS] = []


def pytest_collection_modifyitems(items):
    """With --dist=loadgroup, all tests of a notebook go to one worker: it is run there once."""
    for item in items:
        if item.path.parent == pathlib.Path(__file__).parent:
            of = re.search(r"\[(0\d)", item.nodeid)
            of = of or re.search(r'"(0\d)_\w+\.ipynb"', inspect.getsource(item.function))
            item.add_marker(pytest.mark.xdist_group(of[1] if of else item.path.stem))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    node.config.stash[DELAYS] += getattr(node, "workeroutput", {}).get("delays", [])


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["delays"] = session.config.stash[DELAYS]


def pytest_terminal_summary(terminalreporter, config):
    """The panels' delays; the first row is the bare slider. They fail nothing: machines differ."""
    rows = config.stash[DELAYS]
    if not rows:
        return
    bare = statistics.median(rows[0][2])
    write = terminalreporter.write_line
    terminalreporter.section("panels: from a key press to the first change")
    write(f"{'panel':32}{'drawn':16}{'median ms':>10}{'95% ms':>10}{'x bare slider':>15}")
    for panel, drawn, found in rows:
        median, p95 = statistics.median(found), statistics.quantiles(found, n=20)[-1]
        write(f"{panel:32}{drawn:16}{median:10.1f}{p95:10.1f}{median / bare:15.2f}")


def chromium() -> str | None:
    """Path of a Chromium or Chrome: $CHROMIUM first, then what is on the PATH."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = (shutil.which(name) for name in names)
    return os.environ.get("CHROMIUM") or next(filter(None, found), None)


@pytest.fixture(scope="session")
def browser():
    path = chromium()
    if path is None:
        reason = "no Chromium found: install the package chromium, or set CHROMIUM to its path"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=30_000)  # a busy machine takes more than the five seconds

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


class Lab:
    """A running JupyterLab over a copy of the notebooks: what is typed must not reach them."""

    def __init__(self, folder: pathlib.Path, autosave: int = 120) -> None:
        self.work = folder / "work"
        shutil.copytree(
            ROOT / "notebooks",
            self.work / "notebooks",
            ignore=shutil.ignore_patterns(".ipynb_checkpoints"),
        )
        settings = folder / "settings"
        chosen = {
            # Every cell stays in the page, so that a test can look at all of them.
            "notebook-extension/tracker": {"windowingMode": "none"},
            "docmanager-extension/plugin": {"autosaveInterval": autosave},
        }
        for plugin, values in chosen.items():
            file = settings / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
            file.parent.mkdir(parents=True)
            file.write_text(json.dumps(values))
        self.runtime = folder / "runtime"
        places = {
            "JUPYTER_RUNTIME_DIR": self.runtime,
            "JUPYTER_CONFIG_DIR": folder / "config",
            "JUPYTERLAB_SETTINGS_DIR": settings,
            "JUPYTERLAB_WORKSPACES_DIR": folder / "workspaces",
        }
        self.log = (folder / "log").open("w")
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1"),
                *("--port=0", "--allow-root", f"--IdentityProvider.token={TOKEN}"),
            ],
            cwd=self.work,
            env=os.environ | {name: str(place) for name, place in places.items()},
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )
        self.url = self._wait_for_url()

    def _wait_for_url(self) -> str:
        for _ in range(300):
            for file in self.runtime.glob("jpserver-*.json"):
                # The file appears before it is whole, and before anyone listens.
                with contextlib.suppress(ValueError, ConnectionRefusedError):
                    info = json.loads(file.read_text())
                    socket.create_connection(("127.0.0.1", info["port"]), timeout=30).close()
                    return info["url"]
            if self.process.poll() is not None:
                break
            time.sleep(0.2)
        raise RuntimeError(f"JupyterLab did not start; see {self.log.name}")

    def get(self, path: str) -> object:
        request = urllib.request.Request(
            self.url + path, headers={"Authorization": f"token {TOKEN}"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def kernel_id(self, notebook: str) -> str:
        """Wait until the notebook has a kernel, and return the kernel's id."""
        for _ in range(300):
            for session in self.get("api/sessions"):
                if session["path"] == f"notebooks/{notebook}" and session["kernel"]:
                    return session["kernel"]["id"]
            time.sleep(0.2)
        raise RuntimeError(f"{notebook} got no kernel")

    def ask(self, notebook: str, code: str) -> str:
        """Run code in the notebook's own kernel, and return what it prints."""
        from jupyter_client import BlockingKernelClient

        file = self.runtime / f"kernel-{self.kernel_id(notebook)}.json"
        client = BlockingKernelClient(connection_file=str(file))
        client.load_connection_file()
        client.start_channels()
        printed = []

        def keep(message: dict) -> None:
            assert message["msg_type"] != "error", message["content"]
            if message["msg_type"] == "stream":
                printed.append(message["content"]["text"])

        try:
            client.execute_interactive(code, output_hook=keep, timeout=120, store_history=False)
        finally:
            client.stop_channels()
        return "".join(printed)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        self.log.close()


@pytest.fixture(scope="session")
def lab(tmp_path_factory, browser):
    lab = Lab(tmp_path_factory.mktemp("lab"))
    yield lab
    lab.stop()


@pytest.fixture(scope="session", autouse=True)
def screenshots():
    """A folder for them; `make test` empties it, since the tests run in two parts."""
    SCREENSHOTS.mkdir(exist_ok=True)


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1280, "height": 720})
    page = context.new_page()
    page.set_default_timeout(30_000)
    yield page
    context.close()


@pytest.fixture(scope="package")
def ran(lab, browser):
    """A notebook by its name, opened in a page of its own and run once for all tests."""
    from .notebook_page import NotebookPage

    pages = {}

    def get(name: str) -> NotebookPage:
        if name not in pages:
            page = browser.new_page(viewport={"width": 1280, "height": 720})
            pages[name] = NotebookPage(lab, page, name)
            pages[name].run_all()
        return pages[name]

    yield get
    for notebook in pages.values():
        notebook.page.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """The script of axe-core; with the site's own packages, the only thing that needs npm."""
    try:
        folders = {package: build_site.fetch(package) for package in build_site.PACKAGES}
    except build_site.SiteError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))
    return (folders["axe-core"] / "axe.min.js").read_text()
