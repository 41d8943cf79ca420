"""Every file-system call of the store, so that another kind of storage is one more module like this one."""

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from .errors import StoreError, StoreFullError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


@contextlib.contextmanager
def writing(what: str, folder: Path) -> Iterator[None]:
    """Turn the operating system's refusals into one line each; ``what`` names what is being written."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise StoreFullError(
                f"{folder}: {error.strerror} while writing {what}; nothing already computed is lost: "
                "free some space (`rcnn cache gc` shows what can go) and run the same command again"
            ) from error
        if error.errno in READ_ONLY:
            raise StoreError(
                f"{folder}: {error.strerror} while writing {what}; give this user write permission "
                "or use another store folder"
            ) from error
        raise StoreError(f"{folder}: {error.strerror or error} while writing {what}") from error


def sync_dir(path: Path) -> None:
    """Make a folder's entries durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (
            errno.EINVAL,
            errno.ENOTSUP,
        ):  # some network file systems sync folders themselves
            raise
    finally:
        os.close(fd)


def make_dirs(path: Path) -> None:
    """``mkdir -p`` whose new entries are durable; permissions are the umask's, so a group can share a store."""
    if path.is_dir():
        return
    make_dirs(path.parent)
    with contextlib.suppress(FileExistsError):
        path.mkdir()
    sync_dir(path.parent)


def _write_file(path: Path, data: bytes, mode: int) -> int:
    """Write a new file; returns its open descriptor, not yet synced."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
    except BaseException:
        os.close(fd)
        raise
    return fd


def write_tree(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files (relative paths) into a new folder and make all of it durable; on any failure nothing is left.

    Files get mode 0444: an object never changes. All are written before the first is synced, so that the file
    system can commit them together.
    """
    folders = {folder}
    fds: list[int] = []
    try:
        folder.mkdir()
        for name, data in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            parent = path.parent
            while parent not in folders:
                folders.add(parent)
                parent = parent.parent
            fds.append(_write_file(path, data, 0o444))
        for fd in fds:
            os.fsync(fd)
        for path in folders:
            sync_dir(path)
    except BaseException:
        remove_tree(folder)
        raise
    finally:
        for fd in fds:
            os.close(fd)


def move_dir(source: Path, target: Path) -> bool:
    """Rename a folder and make it durable; False if ``target`` exists and is not empty."""
    try:
        source.rename(target)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            return False
        raise
    sync_dir(target.parent)
    return True


def remove_tree(path: Path) -> None:
    """Remove a folder or file, as far as it can be; absent is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def random_name() -> str:
    """A name no other process will pick."""
    return secrets.token_hex(12)


def atomic_write(path: str | Path, data: bytes) -> None:
    """Write a file so that readers, and a crash at any moment, see the old bytes or the new ones, never a mixture.

    The parent folder must exist. Raises StoreFullError if there is no space, StoreError for any other refusal;
    neither leaves a temporary file.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{random_name()}.partial")
    with writing(path.name, path.parent):
        try:
            fd = _write_file(temporary, data, 0o666)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_dir(path.parent)
