"""Files as a dataset needs them: hashing, writing atomically, and staying inside the dataset's folder."""

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path, PurePosixPath

from .errors import DatasetError, MissingFileError


def sha256_of(data: bytes) -> str:
    """Hex SHA-256 of a file's bytes."""
    return hashlib.sha256(data).hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` so that a reader sees the old file or the new one, never a part, whatever kills us."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)  # mkstemp makes 0600, which other users of a shared dataset could not read
        Path(temporary).replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        with contextlib.suppress(OSError):  # some network file systems cannot sync a folder, and need not
            os.fsync(folder)
        os.close(folder)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def why_unsafe(file_name: str) -> str | None:
    """Why ``file_name`` may not be used below a dataset's image root, or None when it may.

    Only plain relative paths with forward slashes: a manifest may come from anywhere, and must not be able to name
    a file outside the folder that the user pointed at.
    """
    path = PurePosixPath(file_name)
    if not file_name or not path.name:
        return "the file name is empty"
    if "\0" in file_name or "\\" in file_name or any("\ud800" <= char <= "\udfff" for char in file_name):
        return "the file name holds a backslash, a zero byte or half a surrogate pair"
    if path.is_absolute() or path.drive or (len(file_name) > 1 and file_name[1] == ":"):
        return "the file name is an absolute path"
    if ".." in path.parts:
        return "the file name leaves the dataset's folder by '..'"
    if str(path) != file_name:
        return f"the file name is not in its plain form {str(path)!r}"
    return None


def resolve_inside(root: Path, file_name: str) -> Path:
    """The real path of ``file_name`` below ``root``; DatasetError where it leads outside (also through a link)."""
    reason = why_unsafe(file_name)
    if reason:
        raise DatasetError(f"{file_name}: {reason}; name the file relative to {root}")
    path = root / file_name
    try:
        real = path.resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        raise DatasetError(f"{file_name}: cannot be followed ({error}); replace the link by the file") from error
    if not real.is_relative_to(root.resolve()):
        raise DatasetError(f"{file_name}: is a link that leaves {root}; copy the file into the folder")
    return real


def exists(path: Path) -> bool:
    """Whether there is such a file or folder; False too for a name that the file system cannot have."""
    try:
        return path.exists()
    except OSError:  # a name that is too long
        return False


def read_inside(root: Path, file_name: str) -> bytes:
    """The bytes of a file that must be below ``root``, also when links are followed; DatasetError as its parts."""
    return read_bytes(resolve_inside(root, file_name), file_name, root)


def read_bytes(path: Path, name: str, folder: Path | None = None) -> bytes:
    """The file's bytes; DatasetError, naming it ``name`` in ``folder`` (its own), where it is missing or unreadable."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise MissingFileError(
            f"{name}: there is no such file in {folder or path.parent}; add it or drop its entry"
        ) from None
    except OSError as error:
        raise DatasetError(f"{name}: cannot be read ({error.strerror}); check the file and its permissions") from None
