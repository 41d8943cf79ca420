"""Files as a dataset needs them: their digest, staying inside the dataset's folder, and reading from a zip archive."""

import hashlib
import os
import stat
import threading
import zipfile
from pathlib import Path, PurePosixPath

from cache import atomic_write, make_dirs
from cache.errors import DatasetError, MissingFileError

_LFS_POINTERS = (b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/")


def sha256_of(data: bytes) -> str:
    """Compute the SHA-256 (hex) of a file's bytes."""
    return hashlib.sha256(data).hexdigest()


def write_with_folders(path: Path, data: bytes) -> None:
    """Write a file atomically, and the folders above it where they are not there; raises as ``cache.atomic_write``."""
    make_dirs(path.parent)
    atomic_write(path, data)


def why_unsafe(file_name: str) -> str | None:
    """Say why ``file_name`` may not be used below a dataset's image root, or None when it may.

    Only plain relative paths with forward slashes: a manifest may come from anywhere, and must not be able to name
    a file outside the folder that the user pointed at.
    """
    path = PurePosixPath(file_name)
    if not file_name or not path.name:
        return "the file name is empty"
    if "\0" in file_name or "\\" in file_name or any("\ud800" <= char <= "\udfff" for char in file_name):
        return "the file name holds a backslash, a zero byte or half a surrogate pair"
    if "://" in file_name or path.is_absolute() or path.drive or (len(file_name) > 1 and file_name[1] == ":"):
        web = "an address on the web (download the pictures)"
        return f"the file name is {web if '://' in file_name else 'an absolute path'}"
    if ".." in path.parts:
        return "the file name leaves the dataset's folder by '..'"
    if str(path) != file_name:
        return f"the file name is not in its plain form {str(path)!r}"
    return None


def resolve_inside(root: Path, file_name: str) -> Path:
    """Find the real path of ``file_name`` below ``root``; DatasetError where it leads outside (also through a link)."""
    reason = why_unsafe(file_name)
    if reason:
        raise DatasetError(f"{file_name}: {reason}; name the file relative to {root}")
    path = root / file_name
    try:
        real = path.resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        raise DatasetError(f"{file_name}: cannot be followed ({error}); replace the link by the file") from error
    if not real.is_relative_to(root.resolve()):
        raise DatasetError(f"{file_name}: is a link that leaves {root}; {_instead_of_link(real)}")
    return real


def _instead_of_link(target: Path) -> str:
    """What to do about a link that leaves the folder: DVC's cache can be told to hold no links."""
    if ".dvc" in target.parts or ("files" in target.parts and "md5" in target.parts):
        return "it is DVC's: run `dvc unprotect` on the folder, which puts the files themselves there"
    return "copy the file into the folder"


def exists(path: Path) -> bool:
    """Tell whether there is such a file or folder; False too for a name that the file system cannot have."""
    try:
        return path.exists()
    except OSError:  # a name that is too long
        return False


def read_inside(root: Path, file_name: str) -> bytes:
    """Read a file that must be below ``root``, also when links are followed; DatasetError where that cannot be."""
    return read_bytes(resolve_inside(root, file_name), file_name, root)


def read_bytes(
    path: Path, name: str, folder: Path | None = None, *, missing: str = "add it or drop its entry"
) -> bytes:
    """Read a file's bytes; DatasetError, naming it ``name`` in ``folder`` (its own), where that cannot be.

    ``missing``: what to do where there is no such file. A device or a named pipe is refused, since reading it may never
    end; a pipe that the shell has opened (``<(zcat x.gz)``) is read.
    """
    try:
        if reason := _may_not_end(path):
            raise DatasetError(f"{name}: is {reason}; give a file")
        data = path.read_bytes()
    except FileNotFoundError:
        what = (
            "is a link to a file that is not there"
            if path.is_symlink()
            else f"there is no such file in {folder or path.parent}"
        )
        raise MissingFileError(f"{name}: {what}; {missing}") from None
    except IsADirectoryError:
        raise DatasetError(f"{name}: is a folder; give a file") from None
    except OSError as error:
        raise DatasetError(f"{name}: cannot be read ({error.strerror}); check the file and its permissions") from None
    refuse_pointer(data, name)
    return data


def _may_not_end(path: Path) -> str:
    """Say what a path leads to where reading it may never end; "" of others."""
    mode = path.stat().st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode) or path == Path(os.devnull):
        return ""
    if stat.S_ISFIFO(mode):
        return "" if path.is_relative_to("/dev") or path.is_relative_to("/proc") else "a named pipe, not a file"
    return "a device or a socket, not a file"


def lfs_pointer(data: bytes) -> str:
    """Say that ``data`` are not a file but the note that Git LFS keeps in its place, and what to do; "" of others."""
    if not data.startswith(_LFS_POINTERS):
        return ""
    return "is a Git LFS pointer, not the file itself; run `git lfs pull` in its repository, then this again"


def refuse_pointer(data: bytes, name: str) -> None:
    """Raise DatasetError where ``data`` are Git LFS's note in place of a file."""
    if pointer := lfs_pointer(data):
        raise DatasetError(f"{name}: {pointer}")


# No picture that is allowed needs more: twice HARD_MAX_PIXELS of raw RGB would not be decoded either.
MAX_MEMBER_BYTES = 2**28
# zipfile unpacks the other methods without a limit: 187 bytes of bzip2 make 64 MB, whatever size the archive states.
_BOUNDED = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})


class Archive:
    """The files of one zip archive, opened at the first use; picklable; threads and forks may share it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: zipfile.ZipFile | None = None
        self._opened_by = 0  # a forked process would share the place in the file, and read what the other one seeks
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type["Archive"], tuple[Path]]:
        return Archive, (self.path,)  # another process opens it for itself

    def close(self) -> None:
        """Let go of the file; it is opened again when it is needed."""
        with self._lock:
            if self._opened is not None and self._opened_by == os.getpid():
                self._opened.close()
            self._opened = None

    def names(self) -> list[str]:
        """List the names of all files, as the archive has them; DatasetError where it is no readable zip archive."""
        names = self._open().namelist()
        if "" in names:  # of a damaged directory; ZipInfo.is_dir fails on it
            raise DatasetError(f"{self.path}: has an entry without a name; replace the archive")
        return [name for name in names if not name.endswith("/")]

    def read(self, name: str) -> bytes:
        """Read one file's bytes, its CRC checked; DatasetError where it is absent, damaged, encrypted or far too large.

        Only files that are stored or deflated, as those of nearly every archive; another method is a DatasetError, too.
        """
        archive = self._open()
        try:
            info = archive.getinfo(name)
        except KeyError:
            raise MissingFileError(f"{name}: there is no such file in {self.path}; add it or drop its entry") from None
        if info.file_size > MAX_MEMBER_BYTES:
            raise DatasetError(
                f"{name}: unpacks to {info.file_size} bytes, more than the {MAX_MEMBER_BYTES} that a picture may have; "
                f"remove it from {self.path.name}"
            )
        if info.compress_type not in _BOUNDED:
            raise DatasetError(
                f"{name}: is compressed by zip's method {info.compress_type}; make {self.path.name} anew with deflate, "
                "or unpack it and give the folder"
            )
        try:
            with archive.open(info) as member:  # ZipFile.read would unpack 1 GiB at a time before it looks at the size
                data = member.read(info.file_size)
        except MemoryError:  # the machine's fault
            raise
        except Exception as error:  # zipfile raises BadZipFile, zlib.error, EOFError, RuntimeError and more
            raise DatasetError(f"{name}: cannot be read from {self.path} ({error}); replace the archive") from None
        refuse_pointer(data, name)
        return data

    def _open(self) -> zipfile.ZipFile:
        with self._lock:
            if self._opened is None or self._opened_by != os.getpid():
                try:
                    self._opened, self._opened_by = zipfile.ZipFile(self.path), os.getpid()
                except MemoryError:  # the machine's fault
                    raise
                except Exception as error:  # of a damaged directory zipfile raises struct.error and others too
                    raise DatasetError(
                        f"{self.path}: is not a readable zip archive ({error}); give a zip archive or a folder"
                    ) from None
            return self._opened
