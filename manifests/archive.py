"""A zip archive as a dataset's folder: listed and read in place, nothing is unpacked."""

import os
import threading
import zipfile
from pathlib import Path

from .errors import DatasetError, MissingFileError

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
        """Names of all files, as the archive has them; DatasetError where it is no readable zip archive."""
        return [info.filename for info in self._open().infolist() if not info.is_dir()]

    def read(self, name: str) -> bytes:
        """One file's bytes, its CRC checked; DatasetError where it is missing, damaged, encrypted or far too large.

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
                return member.read(info.file_size)
        except MemoryError:  # the machine's fault
            raise
        except Exception as error:  # zipfile raises BadZipFile, zlib.error, EOFError, RuntimeError and more
            raise DatasetError(f"{name}: cannot be read from {self.path} ({error}); replace the archive") from None

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
