"""The set-up: when it runs, where torch comes from, and what it says when it fails."""

import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import install
import pytest

import notebooks

PINS = {"torch": "2.13.0", "setuptools": "84.2.1"}
WHEEL = "torch-2.13.0"


# --- Where torch comes from, over real sockets ---


@contextmanager
def index(status: int, page: str):
    """The address of a package index on this machine that answers every request with `page`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/whl/cpu"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.mark.parametrize(
    ("status", "page", "answers"),
    [
        (200, '<a href="torch-2.13.0%2Bcpu-cp311-linux_x86_64.whl">torch</a>', True),
        (200, '<a href="torch-2.12.0%2Bcpu-cp311-linux_x86_64.whl">torch</a>', False),
        (200, "<h1>Welcome to the hotel's network. Log in.</h1>", False),
        (500, "torch-2.13.0", False),
        (404, "torch-2.13.0", False),
    ],
)
def test_an_index_answers_where_it_lists_the_version(status, page, answers):
    with index(status, page) as url:
        assert install.index_answers(url, WHEEL) is answers
        assert install.index_answers(url + "/", WHEEL) is answers


def test_a_closed_port_does_not_answer():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        assert not install.index_answers(url, WHEEL)


def test_a_server_that_accepts_and_says_nothing_is_given_up_in_time():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        start = time.monotonic()
        assert not install.index_answers(url, WHEEL, seconds=1)
        assert time.monotonic() - start < 5


def test_a_server_that_drips_is_given_up_in_time():
    """Each byte comes in time for the socket's own limit; the whole never does."""

    def drip(server):
        connection, _ = server.accept()
        with connection:
            try:
                connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
                while True:
                    connection.sendall(b".")
                    time.sleep(0.1)
            except OSError:
                pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=drip, args=(server,), daemon=True).start()
        start = time.monotonic()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert not install.index_answers(url, WHEEL, seconds=1)
        assert time.monotonic() - start < 5


def test_a_look_up_that_hangs_is_given_up_in_time(monkeypatch):
    hangs = "import socket, time\nsocket.getaddrinfo = lambda *a, **k: time.sleep(60)\n"
    monkeypatch.setattr(install, "PROBE", hangs + install.PROBE)
    start = time.monotonic()
    assert not install.index_answers("http://nowhere.invalid", WHEEL, seconds=1)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("echo 'GPU 0: Some Model (UUID: GPU-0)'", True),
        ("echo 'No devices found.'", False),
        ('echo "couldn\'t communicate with the NVIDIA driver"; exit 9', False),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_a_gpu_is_one_that_nvidia_smi_finds(tmp_path, monkeypatch, script, found):
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert install.has_nvidia_gpu() is found


def test_no_nvidia_smi_is_no_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not install.has_nvidia_gpu()


@pytest.mark.parametrize(
    ("system", "gpu", "cpu_build"),
    [("Linux", False, True), ("Linux", True, False), ("Darwin", False, False)],
)
def test_the_cpu_build_is_for_linux_without_a_gpu(monkeypatch, system, gpu, cpu_build):
    monkeypatch.setattr(install.platform, "system", lambda: system)
    monkeypatch.setattr(install, "has_nvidia_gpu", lambda: gpu)
    assert install.wants_cpu_build() is cpu_build


# --- What pip is asked for ---


def test_torch_comes_first_from_the_cpu_index_and_the_rest_from_the_default_one():
    calls = []
    install.install(lambda *a: calls.append(a), PINS, "https://cpu.example/whl")
    torch, backend, rest = calls
    assert torch[:3] == ("--index-url", "https://cpu.example/whl", "--no-deps")
    assert "--timeout" in torch and "--retries" in torch and torch[-1] == "torch==2.13.0"
    assert backend == ("setuptools==84.2.1",)
    assert rest == ("--no-build-isolation", "-c", "constraints.txt", "-e", ".[course,test]")


def test_without_a_cpu_index_only_the_default_one_is_asked():
    calls = []
    install.install(lambda *a: calls.append(a), PINS, None)
    assert len(calls) == 2
    assert not any("--index-url" in call for call in calls)


def test_a_cpu_index_that_fails_midway_is_left_for_the_default_one(monkeypatch):
    calls, said = [], []

    def run(*arguments):
        calls.append(arguments)
        if "--index-url" in arguments:
            raise install.InstallError("the connection broke")

    monkeypatch.setattr(install, "need_room_for_cuda", lambda: None)
    install.install(run, PINS, "https://cpu.example/whl", say=said.append)
    assert calls[-1][-1] == ".[course,test]"
    assert len(said) == 1 and "default index" in said[0]


def test_cuda_is_not_begun_on_a_disk_that_cannot_hold_it(monkeypatch):
    monkeypatch.setattr(install.doctor, "free_disk", lambda: install.doctor.DISK_TO_INSTALL)
    with pytest.raises(install.InstallError, match=r"CUDA.*GiB"):
        install.need_room_for_cuda()


def test_pins_are_read_from_the_constraints():
    text = '# a==1\nRuamel.yaml==0.19\ntorch==2.13.0\ncolorama==0.4 ; sys_platform == "win32"\n'
    assert install.doctor.pins(text) == {
        "ruamel.yaml": "0.19",
        "torch": "2.13.0",
        "colorama": "0.4",
    }


def test_a_pip_that_fails_is_told_in_plain_words_and_logged(tmp_path, monkeypatch):
    """The pip of this very environment, and an index behind a closed port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(install, "venv_python", lambda env: sys.executable)
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
        run = install.pip_runner(tmp_path)
        closed = f"http://127.0.0.1:{taken.getsockname()[1]}"
        arguments = ("--index-url", closed, "--retries", "1", "--target", str(tmp_path / "lib"))
        with pytest.raises(install.InstallError, match="cannot be reached: check the network"):
            run(*arguments, "variable-length-batches-is-not-there==1")
    log = (tmp_path / "install.log").read_text()
    assert "pip install" in log and "variable-length-batches-is-not-there" in log


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("ERROR: Could not install: [Errno 28] No space left on device", "disk is full"),
        ("after connection broken by 'NewConnectionError(...)'", "check the network"),
        ("SSLError(CertificateError", "certificate"),
        ("ERROR: No matching distribution found for torch==2.13.0", "no torch==2.13.0 for this"),
        ("fine\nERROR: first\nERROR: the last", "the last"),
        ("", "without a word"),
    ],
)
def test_pip_s_failures_are_explained(said, sentence):
    assert sentence in install.explain(said)


# --- What is there already ---

WANT = {"python": "3.11", "folder": "/course", "versions": "abc"}


def environment(tmp_path, stamp):
    """A `.venv` whose Python is this one, with the stamp given; no stamp where None."""
    env = tmp_path / ".venv"
    install.venv_python(env).parent.mkdir(parents=True)
    install.venv_python(env).symlink_to(sys.executable)
    if stamp is not None:
        (env / "course.json").write_text(stamp if isinstance(stamp, str) else json.dumps(stamp))
    return env


@pytest.fixture
def healthy(monkeypatch):
    monkeypatch.setattr(install, "runs", lambda python: True)


def test_nothing_is_there(tmp_path):
    assert install.plan(tmp_path / ".venv", WANT)[0] == "make"
    (tmp_path / ".venv").mkdir()
    assert install.plan(tmp_path / ".venv", WANT)[0] == "make"


def test_all_is_there(tmp_path, healthy):
    assert install.plan(environment(tmp_path, WANT), WANT) == ("nothing", "")


@pytest.mark.parametrize(
    ("stamp", "todo", "words"),
    [
        ("{}", "make", "not finished"),
        ("{ half a fi", "make", "not finished"),
        ({**WANT, "folder": "/elsewhere"}, "make", "moved or copied"),
        ({**WANT, "python": "3.12"}, "make", "from Python 3.12 to 3.11"),
        ({**WANT, "versions": "older"}, "update", "tested versions have changed"),
    ],
)
def test_something_else_is_there(tmp_path, healthy, stamp, todo, words):
    done, sentence = install.plan(environment(tmp_path, stamp), WANT)
    assert done == todo
    assert words in sentence


def test_a_python_that_is_gone_is_noticed(tmp_path):
    env = environment(tmp_path, WANT)
    install.venv_python(env).unlink()
    install.venv_python(env).symlink_to(tmp_path / "uninstalled")
    done, sentence = install.plan(env, WANT)
    assert done == "make" and "is gone" in sentence
    (env / "course.json").write_text(json.dumps({**WANT, "versions": "older"}))
    assert install.plan(env, WANT)[0] == "make"


def test_an_environment_of_somebody_else_is_left_alone(tmp_path):
    env = environment(tmp_path, None)
    with pytest.raises(install.InstallError, match="was not made by this course"):
        install.plan(env, WANT)
    assert install.venv_python(env).exists()


def test_only_what_decides_the_installation_asks_for_a_new_one(tmp_path):
    project = (install.ROOT / "pyproject.toml").read_text()
    constraints = (install.ROOT / "constraints.txt").read_text()

    def versions(project, constraints):
        (tmp_path / "pyproject.toml").write_text(project)
        (tmp_path / "constraints.txt").write_text(constraints)
        return install.wanted(tmp_path)["versions"]

    now = versions(project, constraints)
    assert versions(project.replace("line-length = 100", "line-length = 99"), constraints) == now
    assert versions(project.replace('"torch>=2.11', '"torch>=2.10'), constraints) != now
    assert versions(project, constraints.replace("torch==2.13.0", "torch==2.13.1")) != now


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A folder where pip only writes down what it was asked for, and can be made to fail."""
    for name in ("constraints.txt", "pyproject.toml"):
        (tmp_path / name).write_text((install.ROOT / name).read_text())
    asked = []

    def runner(env):
        def run(*arguments):
            asked.append(arguments)
            if run.broken:
                raise run.broken

        run.broken = runner.broken
        return run

    runner.broken = None
    wanted = install.wanted
    monkeypatch.setattr(install, "pip_runner", runner)
    monkeypatch.setattr(install, "wanted", lambda: wanted(tmp_path))
    monkeypatch.setattr(install, "wants_cpu_build", lambda: False)
    monkeypatch.setattr(install.doctor, "free_disk", lambda: 100 * install.doctor.GIB)
    # A real environment, without the seconds that a pip in it takes.
    builder = install.venv.EnvBuilder
    monkeypatch.setattr(install.venv, "EnvBuilder", lambda **_: builder(symlinks=os.name != "nt"))
    monkeypatch.setattr(install, "runs", lambda python: python.exists())
    return tmp_path / ".venv", asked, runner


def test_a_second_run_does_nothing(course, capsys):
    env, asked, _ = course
    install.set_up(env)
    assert "once" in capsys.readouterr().out
    assert asked
    settings = json.loads((env / "share/jupyter/lab/settings/overrides.json").read_text())
    assert settings == install.OVERRIDES
    asked.clear()
    install.set_up(env)
    assert asked == [] and capsys.readouterr().out == ""


@pytest.mark.parametrize("stop", [install.InstallError("no network"), KeyboardInterrupt()])
def test_an_interrupted_set_up_starts_again(course, capsys, stop):
    env, _, runner = course
    runner.broken = stop
    with pytest.raises(type(stop)):
        install.set_up(env)
    (env / "half-written").touch()
    runner.broken = None
    capsys.readouterr()
    install.set_up(env)
    assert "was not finished" in capsys.readouterr().out
    assert not (env / "half-written").exists()


def test_an_interrupted_update_is_not_taken_for_finished(course):
    env, _, runner = course
    install.set_up(env)
    stamp = json.loads((env / "course.json").read_text())
    (env / "course.json").write_text(json.dumps({**stamp, "versions": "older"}))
    runner.broken = install.InstallError("no network")
    with pytest.raises(install.InstallError):
        install.set_up(env)
    assert install.plan(env, install.wanted())[0] == "make"


TERMINAL = """
import sys, time, pathlib, install
root = pathlib.Path(sys.argv[1])

def runner(env):
    def run(*arguments):
        with (root / "asked").open("a") as file:
            print(*arguments, file=file)
        time.sleep(0.5)
    return run

wanted, builder = install.wanted, install.venv.EnvBuilder
install.pip_runner = runner
install.wanted = lambda: wanted(root)
install.wants_cpu_build = install.need_room_for_cuda = lambda: None
install.venv.EnvBuilder = lambda **_: builder(symlinks=True)
install.runs = lambda python: python.exists()
install.set_up(root / ".venv")
"""


def terminal(folder):
    """`set_up` in a process of its own, where pip only writes down what it was asked for."""
    command = [sys.executable, "-c", TERMINAL, str(folder)]
    return subprocess.Popen(command, cwd=install.ROOT / "tools", stdout=subprocess.PIPE, text=True)


@pytest.fixture
def folder(tmp_path):
    for name in ("constraints.txt", "pyproject.toml"):
        (tmp_path / name).write_text((install.ROOT / name).read_text())
    return tmp_path


@pytest.mark.skipif(os.name == "nt", reason="the environments are made with links")
def test_of_two_set_ups_at_once_the_second_waits_and_finds_all_done(folder):
    both = [terminal(folder), terminal(folder)]
    said = sorted(process.communicate(timeout=60)[0] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert said[0] == "Another set-up is running here: waiting until it has finished.\n"
    assert ".venv is ready." in said[1] and "Another" not in said[1]
    assert len((folder / "asked").read_text().splitlines()) == 2  # the build backend, and the rest
    assert install.stamped(folder / ".venv/course.json") == install.wanted(folder)


@pytest.mark.skipif(os.name == "nt", reason="the environments are made with links")
def test_a_set_up_that_was_killed_keeps_nobody_waiting(folder):
    first = terminal(folder)
    while not (folder / "asked").exists():
        time.sleep(0.05)
    second = terminal(folder)
    assert second.stdout.readline().startswith("Another set-up is running")
    first.kill()
    said, _ = second.communicate(timeout=60)
    assert second.returncode == 0 and "was not finished" in said and ".venv is ready." in said
    first.communicate()


def test_a_full_disk_stops_before_anything_is_made(course, monkeypatch):
    env, asked, _ = course
    monkeypatch.setattr(install.doctor, "free_disk", lambda: install.doctor.GIB)
    with pytest.raises(install.InstallError, match=r"1\.0 GiB of disk"):
        install.set_up(env)
    assert asked == [] and not env.exists()


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (install.InstallError("the fix"), 1, "the fix"),
        (PermissionError(13, "Permission denied", "/x"), 1, "Permission denied"),
        (KeyboardInterrupt(), 130, "Run the command again"),
    ],
)
def test_main_ends_in_a_plain_line(monkeypatch, capsys, error, code, words):
    def fail():
        raise error

    monkeypatch.setattr(install, "set_up", fail)
    assert install.main([]) == code
    said = capsys.readouterr().err.strip()
    assert words in said and len(said.splitlines()) == 1


def test_main_refuses_what_it_does_not_know(capsys):
    assert install.main(["--lab-setings"]) == 1
    assert "--lab-settings" in capsys.readouterr().err


# --- JupyterLab's settings ---


def test_settings_of_somebody_else_stay(tmp_path):
    path = tmp_path / "share/jupyter/lab/settings/overrides.json"
    install.lab_settings(tmp_path)
    assert json.loads(path.read_text()) == install.OVERRIDES
    notification = "@jupyterlab/apputils-extension:notification"
    theirs = {notification: {"fetchNews": "true"}, "their:plugin": {"a": 1}}
    path.write_text(json.dumps(theirs))
    install.lab_settings(tmp_path)
    merged = json.loads(path.read_text())
    assert merged["their:plugin"] == {"a": 1}
    assert merged[notification] == {"fetchNews": "true", "checkForUpdates": False}
    assert merged.keys() == install.OVERRIDES.keys() | theirs.keys()


def test_a_settings_file_that_is_not_json_stays(tmp_path, capsys):
    path = tmp_path / "share/jupyter/lab/settings/overrides.json"
    path.parent.mkdir(parents=True)
    path.write_text("{ // by hand\n}")
    install.lab_settings(tmp_path)
    assert path.read_text() == "{ // by hand\n}"
    assert str(path) in capsys.readouterr().out


def test_jupyterlab_reads_them(tmp_path, monkeypatch):
    """The switch that Binder's postBuild uses, and what JupyterLab itself makes of the files."""
    monkeypatch.setattr(install.sys, "prefix", str(tmp_path))
    assert install.main(["--lab-settings"]) == 0
    code = (
        "from jupyterlab.labapp import LabApp\n"
        "from jupyterlab_server.settings_utils import _get_overrides\n"
        "app = LabApp(); app.load_config_file()\n"
        "print(app.default_url)\n"
        f"print(_get_overrides({str(tmp_path / 'share/jupyter/lab/settings')!r})[0])\n"
    )
    environment = {**os.environ, "JUPYTER_CONFIG_PATH": str(tmp_path / "etc/jupyter")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    url, overrides = done.stdout.splitlines()
    assert url == "/lab/tree/notebooks/00_start_here.ipynb"
    assert (tmp_path / "etc/ipython/startup/variable_length_batches.py").exists()
    assert len(list((tmp_path / "etc/jupyter/jupyter_server_config.d").iterdir())) == 1
    assert overrides == str(install.OVERRIDES)


def test_what_builds_the_site_is_added_once_and_again_when_versions_change(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(install, "pip_runner", lambda env: lambda *words: asked.append(words))
    install.add_site(tmp_path)
    install.add_site(tmp_path)
    assert (
        len(asked) == 1 and asked[0][-1] == ".[course,test,site]" and "constraints.txt" in asked[0]
    )
    changed = install.wanted() | {"versions": "others"}
    monkeypatch.setattr(install, "wanted", lambda: changed)
    install.add_site(tmp_path)
    assert len(asked) == 2


def test_a_kernel_says_of_itself_what_the_notebooks_are_saved_with():
    """Or JupyterLab would write it into a notebook that is only opened, and mark it as changed."""
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(300)
    try:
        said = client.kernel_info(reply=True, timeout=60)["content"]["language_info"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert said == notebooks.METADATA["language_info"]
    spec = KernelSpecManager().get_kernel_spec("python3")
    shown = {"display_name": spec.display_name, "language": spec.language, "name": "python3"}
    assert shown == notebooks.METADATA["kernelspec"]
