"""A store that belongs to a group: every user may do everything, whatever each one's umask."""

import importlib
import os
import stat
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from other_user import become_for_good
from store_samples import Samples

from cache import Artifact, Store
from cache.maintenance import gc, verify

GROUP, ANNA, BERT = 60000, 60001, 60002
two_users = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become two other users")


def as_user(user: int, umask: int, action: Callable[[], Any]) -> None:
    """Do something in a child process of that user, whose own group is another than ``GROUP``."""
    pid = os.fork()
    if pid == 0:
        try:
            become_for_good(user, [GROUP])
            os.umask(umask)
            action()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def shared_folder(path: Path) -> Path:
    path.mkdir()
    path.chmod(0o2775)
    return path


def claim(store: Store, key: str) -> str:
    return store.register(Artifact("features", 1, {}, {}, ((1, key),), {}).as_claim())


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_whatever_is_written_is_the_groups_too(tmp_path: Path, samples: Samples, umask: int) -> None:
    store = Store(shared_folder(tmp_path / "store"))
    before = os.umask(umask)
    try:
        damaged = samples.put(store, 0, "hdf5")
        key = samples.put(store, 1, "zarr")
        claim(store, key)
        store.quarantine("features", damaged)
    finally:
        os.umask(before)
    found = {path: path.stat().st_mode for path in (tmp_path / "store").rglob("*")}
    folders = {path.name for path, mode in found.items() if stat.S_ISDIR(mode)}
    assert {"objects", "features", key[:2], key, "data.zarr", "fc7", "refs", "tmp", "quarantine"} <= folders
    for path, mode in found.items():
        owner = (mode & stat.S_IRWXU) >> 3
        assert mode & stat.S_IRWXG == owner, path
        assert bool(mode & stat.S_ISGID) == stat.S_ISDIR(mode), path
        assert mode & stat.S_IRWXO == (0o777 & ~umask & (0o5 if stat.S_ISDIR(mode) else 0o4)), path


def test_without_setgid_the_umask_decides(tmp_path: Path, samples: Samples) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store").chmod(0o775)
    store = Store(tmp_path / "store")
    before = os.umask(0o077)
    try:
        key = samples.put(store)
    finally:
        os.umask(before)
    assert stat.S_IMODE(store.path("features", key).stat().st_mode) == 0o700


def test_two_that_make_the_same_folder(tmp_path: Path, samples: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    store, real = Store(shared_folder(tmp_path / "store")), Path.rename

    def other_first(self: Path, target: Path) -> Path:
        if self.name.endswith(".partial"):
            Path(target).mkdir(exist_ok=True)
            (Path(target) / "theirs").touch()
        return real(self, target)

    monkeypatch.setattr(Path, "rename", other_first)
    key = samples.put(store)
    monkeypatch.undo()
    assert store.check("features", key) == []
    assert not list((tmp_path / "store").glob(".*"))


@two_users
def test_two_users_do_everything_to_each_others_objects(public_dir: Path, samples: Samples) -> None:
    root = shared_folder(public_dir / "store")
    os.chown(root, 0, GROUP)
    root.chmod(0o2775)
    old, damaged, used = (samples.put(Store(public_dir / "elsewhere"), i) for i in range(3))

    def write() -> None:
        store = Store(root)
        assert [samples.put(store, i) for i in range(3)] == [old, damaged, used]
        claim(store, used)

    def take_over() -> None:
        store = Store(root)
        assert store.missing("features", [used]) == set()
        assert store.get("features", used).attrs["count"] == 40
        assert store.quarantine("features", damaged)
        assert samples.put(store, 1) == damaged
        samples.put(store, 3)
        claim(store, used)  # replaces the other's
        claim(store, damaged)
        report = gc(store, [], dry_run=False, grace_s=100.0)
        assert [removal.entry.key for removal in report.removals] == [old]

    def clear() -> None:
        store = Store(root)
        for name in store.references():
            store.unregister(name)
        assert store.quarantine("features", damaged)
        gc(store, [], dry_run=False, grace_s=-100.0)
        assert verify(store).checked.objects == 0
        assert not list((root / "quarantine").iterdir())

    as_user(ANNA, 0o077, write)
    for key in (old, used):
        os.utime(Store(root).path("features", key), (1e9, 1e9))
    as_user(BERT, 0o022, take_over)
    assert Store(root).path("features", used).stat().st_mtime > 1e9  # in use, as the other found
    assert Store(root).path("features", damaged).stat().st_uid == BERT
    assert {path.stat().st_gid for path in root.rglob("*")} == {GROUP}
    as_user(ANNA, 0o077, clear)


@two_users
def test_another_user_loads_modules_of_a_folder_that_it_cannot_enter(
    tmp_path: Path, unprivileged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Enter folders as if the checkout, or Python, lay in root's home; files are as unreadable as ever."""
    folder = tmp_path / "private"
    folder.mkdir()
    folder.chmod(0o700)
    (folder / "rcnn_outer.py").write_text("import rcnn_inner\n")
    (folder / "rcnn_inner.py").write_text("value = 7\n")
    monkeypatch.syspath_prepend(folder)
    with unprivileged():
        assert importlib.import_module("rcnn_outer").rcnn_inner.value == 7
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("rcnn_other")
        with pytest.raises(PermissionError):
            (folder / "rcnn_inner.py").read_text()
    assert os.geteuid() == 0
    for name in ("rcnn_outer", "rcnn_inner"):
        monkeypatch.delitem(sys.modules, name)
