"""A grid leaves the user's files alone: whoever edits, whatever is killed; and never kills DVC."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from cache.errors import ExecutionError, InterruptedRun, ParamsError
from pipeline.grids.experiments import Stop, dvc_experiments
from pipeline.grids.former import alone, folder_of, keep_former, put_back
from pipeline.grids.setting import Setting, change

OLD, OURS, EDITED = b"lr: 0.1\n", b"lr: 0.2\n", b"lr: 0.3\n"


def killed(project: Path, *, now: bytes | None = OURS, former: bytes | None = OLD) -> Path:
    """Leave what a grid leaves that is killed while its experiment runs, ``now`` being in the file."""
    path = project / "params.yaml"
    if former is not None:
        path.write_bytes(former)
    keep_former(project, {"params.yaml": OURS})
    path.unlink(missing_ok=True)
    if now is not None:
        path.write_bytes(now)
    return path


@pytest.mark.parametrize("now", [OURS, OLD])
def test_what_the_experiment_left_is_put_back(tmp_path: Path, now: bytes) -> None:
    path = killed(tmp_path, now=now)
    assert put_back(tmp_path) == (["params.yaml"] if now == OURS else [], [])
    assert path.read_bytes() == OLD and not folder_of(tmp_path).exists()
    assert put_back(tmp_path) == ([], [])


def test_an_edit_stays_and_what_was_before_is_beside_it(tmp_path: Path) -> None:
    path = killed(tmp_path, now=EDITED)
    (tmp_path / "params.yaml.before-grid").write_text("another time's")
    back, (line,) = put_back(tmp_path)
    assert not back and line == (
        f"{path}: was edited while an experiment of the grid ran, and stays as it is now; "
        "what it was before is params.yaml.before-grid-2"
    )
    assert path.read_bytes() == EDITED and (tmp_path / "params.yaml.before-grid-2").read_bytes() == OLD
    assert (tmp_path / "params.yaml.before-grid").read_text() == "another time's"
    assert not folder_of(tmp_path).exists()


def test_what_is_put_back_may_be_read_by_whom_it_was(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(OLD)
    path.chmod(0o600)
    keep_former(tmp_path, {"params.yaml": OURS})
    path.write_bytes(OURS)
    path.chmod(0o644)
    assert put_back(tmp_path) == (["params.yaml"], [])
    assert path.read_bytes() == OLD and path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "file", ["../outside.txt", "../params.yaml", "notes.txt", "a/../../params.yaml", "/tmp/dvc.yaml"]
)
@pytest.mark.parametrize("was", [True, False])
def test_an_index_from_elsewhere_reaches_no_other_file(tmp_path: Path, file: str, was: bool) -> None:
    project = tmp_path / "project"
    project.mkdir()
    killed(project)
    target = Path(os.path.normpath(project / file))
    if tmp_path in target.parents:
        target.write_bytes(OURS)
    index = folder_of(project) / "index.json"
    index.write_text(json.dumps([{"file": file, "path": file, "was": was}]))
    back, (line,) = put_back(project)
    assert not back and "is no file that a grid changes" in line
    assert target.exists() == (tmp_path in target.parents) and (not target.exists() or target.read_bytes() == OURS)


def test_what_was_absent_is_removed(tmp_path: Path) -> None:
    path = killed(tmp_path, former=None)
    assert put_back(tmp_path) == (["params.yaml"], []) and not path.exists()
    path = killed(tmp_path, former=None, now=EDITED)
    _, (line,) = put_back(tmp_path)
    assert "stays as it is now" in line and path.read_bytes() == EDITED


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    path, target = tmp_path / "project" / "params.yaml", tmp_path / "shared" / "params.yaml"
    path.parent.mkdir()
    target.write_bytes(OLD)
    path.symlink_to(target)
    keep_former(path.parent, {"params.yaml": OURS})
    path.write_bytes(OURS)  # as DVC does: through the link
    assert put_back(path.parent) == (["params.yaml"], [])
    assert path.is_symlink() and target.read_bytes() == OLD


def test_one_file_that_cannot_be_put_back_does_not_hold_up_the_others(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "params.yaml").write_bytes(OLD)
    keep_former(tmp_path, {f"{name}/params.yaml": OURS for name in ("a", "b")})
    (tmp_path / "a/params.yaml").unlink()
    (tmp_path / "a/params.yaml").mkdir()  # cannot be read, not even by root
    (tmp_path / "b/params.yaml").write_bytes(OURS)
    back, (line,) = put_back(tmp_path)
    assert back == ["b/params.yaml"] and "a/params.yaml: cannot be put back" in line
    assert (folder_of(tmp_path) / "0.former").read_bytes() == OLD  # the only copy
    (tmp_path / "a/params.yaml").rmdir()
    (tmp_path / "a/params.yaml").write_bytes(OURS)
    assert put_back(tmp_path) == (["a/params.yaml"], []) and not folder_of(tmp_path).exists()


def test_a_kill_before_anything_was_touched_changes_nothing(tmp_path: Path) -> None:
    path = killed(tmp_path, now=EDITED)
    (folder_of(tmp_path) / "index.json").unlink()  # it is written last
    assert put_back(tmp_path) == ([], []) and path.read_bytes() == EDITED
    assert not folder_of(tmp_path).exists()


def test_former_files_are_synced_before_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(str(Path(f"/proc/self/fd/{fd}").readlink())))
    killed(tmp_path)
    files = [Path(path).name for path in synced if Path(path).name.endswith(".partial")]
    assert [name.split(".")[1] for name in files] == ["0", "0", "index"]
    assert json.loads((folder_of(tmp_path) / "index.json").read_bytes())[0]["was"] is True


def test_a_second_grid_is_refused(tmp_path: Path) -> None:
    refused = pytest.raises(ExecutionError, match="another grid, or an experiment of one, is running")
    with alone(tmp_path), refused, alone(tmp_path):
        pass
    with ExitStack() as other:
        other.enter_context(alone(tmp_path))
        threading.Timer(0.3, other.close).start()
        with alone(tmp_path, patience_s=30):
            pass
    with alone(tmp_path) as lock:
        assert os.fstat(lock).st_ino == (tmp_path / "reports").stat().st_ino


# What stands in for DVC: it writes down what it is called with, and does what ``does`` says when it is to run.
STUB = """
import signal, sys, time
with open("calls", "a") as file:
    file.write(" ".join(sys.argv[1:]) + "\\n")
if sys.argv[2] == "run":
{does}
"""
TIDIES = """
    try:
        open("started", "w").close()
        time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(1)  # longer than subprocess.run waits before it kills
        open("tidied", "w").close()
        sys.exit(1)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    return tmp_path


@pytest.fixture
def lock(project: Path) -> Iterator[int]:
    with alone(project) as held:
        yield held


def stub(project: Path, does: str) -> Sequence[str]:
    (project / "stub.py").write_text(STUB.format(does=does))
    return (sys.executable, str(project / "stub.py"))


def commit_of(project: Path) -> str:
    return subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=project, text=True)[:7]


def test_an_experiment_is_named_after_its_commit_and_replaces_only_that(project: Path, lock: int) -> None:
    name = f"faster1-ss-{commit_of(project)}"
    dvc_experiments(project, Stop(), lock, stub(project, "    pass"))("faster1-ss", ["a=1", "b=2"], "dvc.yaml:x")
    assert (project / "calls").read_text().splitlines() == [
        f"exp remove -q {name}",
        f"exp run --name {name} -S a=1 -S b=2 dvc.yaml:x",
    ]


def test_what_dvc_says_goes_to_stderr(project: Path, lock: int, capfd: pytest.CaptureFixture[str]) -> None:
    """Stdout is the table's, which may go to a file."""
    dvc_experiments(project, Stop(), lock, stub(project, "    print('ran', flush=True)"))("crops-a", [], "")
    out, err = capfd.readouterr()
    assert out == "" and err.splitlines()[-1] == "ran"


def test_dvc_that_fails_is_one_line(project: Path, lock: int) -> None:
    with pytest.raises(ExecutionError, match=r"^faster1-ss-.{7}: dvc exp run failed; what was run before is kept"):
        dvc_experiments(project, Stop(), lock, stub(project, "    sys.exit(3)"))("faster1-ss", [], "")


def test_a_project_without_a_commit_is_one_line(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    with alone(tmp_path) as lock, pytest.raises(ParamsError, match="has no git commit"):
        dvc_experiments(tmp_path, Stop(), lock, stub(tmp_path, ""))("faster1-ss", [], "")


@pytest.mark.parametrize(
    ("number", "background"),
    [
        (signal.SIGINT, False),
        (signal.SIGTERM, False),
        (signal.SIGHUP, False),
        (signal.SIGTERM, True),
        (signal.SIGHUP, True),
    ],
)
def test_a_signal_waits_for_dvc_and_does_not_kill_it(
    project: Path, lock: int, number: signal.Signals, background: bool
) -> None:
    """Try it in the foreground, and as a shell's background job, which ignores Ctrl-C, and so do its children."""
    found = [(one, signal.getsignal(one)) for one in (signal.SIGINT, number)]
    signal.signal(number, signal.default_int_handler)  # how the tests themselves were started does not matter
    if background:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _is_waited_for(project, lock, number)
    finally:
        for one, handler in found:
            signal.signal(one, handler)


def _is_waited_for(project: Path, lock: int, number: signal.Signals) -> None:
    def send() -> None:
        while not (project / "started").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), number)
        time.sleep(0.3)
        os.kill(os.getpid(), number)  # an impatient user

    before = signal.getsignal(number)
    sender = threading.Thread(target=send)
    with Stop() as stop:
        sender.start()
        with pytest.raises(InterruptedRun):
            dvc_experiments(project, stop, lock, stub(project, TIDIES))("faster1-ss", [], "")
        assert (project / "tidied").exists()
        sender.join()
        with pytest.raises(InterruptedRun):
            stop.check()
    assert signal.getsignal(number) is before


def test_a_hang_up_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stop() as stop:
            signal.raise_signal(signal.SIGHUP)
            stop.check()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_dvc_holds_the_lock_of_a_grid_that_was_killed(project: Path) -> None:
    """Nothing may be put back under an experiment that still runs."""
    code = (
        "import sys; from pathlib import Path; from pipeline.grids.former import alone\n"
        "from pipeline.grids.experiments import Stop, dvc_experiments\n"
        "with alone(Path(sys.argv[1])) as lock:\n"
        "    dvc_experiments(Path(sys.argv[1]), Stop(), lock, sys.argv[2:])('a', [], '')\n"
    )
    waits = "    open('started', 'w').close()\n    while not __import__('os').path.exists('end'): time.sleep(0.02)\n"
    grid = subprocess.Popen([sys.executable, "-c", code, str(project), *stub(project, waits)])
    try:
        while not (project / "started").exists():
            assert grid.poll() is None
            time.sleep(0.02)
    finally:
        grid.kill()
        grid.wait()
    with pytest.raises(ExecutionError), alone(project):
        pass
    (project / "end").touch()
    handle = os.open(project / "reports", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)  # free once it has ended; the test's limit of time is the check
    os.close(handle)


def test_dvc_itself_leaves_the_files_that_are_expected(project: Path) -> None:
    """A real experiment, with an uncommitted edit: its parameters read as planned, byte by byte."""
    params = "# mine\nlr: 0.1   # a rate\npath: a\nsizes: [1, 2]\nkept: null\n"
    (project / "params.yaml").write_text(params)
    command = "cat params.yaml weights > seen"
    (project / "dvc.yaml").write_text(f"stages:\n  a:\n    cmd: {command}\n    params: [lr, path, sizes]\n")
    (project / ".gitignore").write_text("/reports/\n/seen\n/calls\n/weights\n")
    (project / "weights").write_text("old")
    for call in (
        [sys.executable, "-m", "dvc", "init", "-q"],
        ["git", "config", "user.name", "a"],  # the project's own: DVC commits, too, and whoever tests may have none
        ["git", "config", "user.email", "a@b"],
        ["git", "add", "-A"],
        ["git", "commit", "-qm", "second"],
    ):
        subprocess.run(call, cwd=project, check=True)
    edited = params.replace("a rate", "my rate")
    (project / "params.yaml").write_text(edited)
    settings = [
        Setting("params.yaml", "lr", 0.25),
        Setting("params.yaml", "path", "/data/it's a(1).h5"),
        Setting("params.yaml", "sizes", [7, 12]),
    ]
    trial = project / "reports" / "trial"
    trial.mkdir(parents=True)
    (trial / "params.yaml").write_text(edited)
    expected = change(trial, settings)
    with alone(project) as lock:
        keep_former(project, expected)
        run, given = dvc_experiments(project, Stop(), lock), [setting.for_dvc for setting in settings]
        run("t-a", given, "")
        assert (project / "seen").read_bytes() == expected["params.yaml"] + b"old"
        (project / "weights").write_text("new")  # of which DVC knows nothing
        run("t-a", given, "", force=True)
        assert (project / "seen").read_bytes() == expected["params.yaml"] + b"new"
        assert (project / "params.yaml").read_bytes() == expected["params.yaml"]
        assert put_back(project) == (["params.yaml"], [])
    assert (project / "params.yaml").read_text() == edited
    listed = subprocess.check_output(
        [sys.executable, "-m", "dvc", "exp", "list", "--name-only"], cwd=project, text=True
    )
    assert listed.split() == [f"t-a-{commit_of(project)}"]
