"""Reading one file: what it says of a file that is not there, is none, or would never end."""

import os
from pathlib import Path

import pytest

from cache.errors import DatasetError, MissingFileError
from manifests.files import read_bytes


def test_a_named_pipe_or_a_device_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, said in ((tmp_path / "pipe", "x: is a named pipe, not a file"), (Path("/dev/zero"), "x: is a device")):
        with pytest.raises(DatasetError) as caught:
            read_bytes(path, "x")
        assert str(caught.value).startswith(said)


def test_a_pipe_that_the_shell_has_opened_is_read() -> None:
    out, into = os.pipe()
    try:
        os.write(into, b"[]")
        os.close(into)
        assert read_bytes(Path(f"/dev/fd/{out}"), "x") == b"[]"
    finally:
        os.close(out)
    assert read_bytes(Path(os.devnull), "x") == b""


def test_what_is_not_there_is_told_by_its_cause(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(MissingFileError, match=r"^a: there is no such file in .*; add it or drop its entry$"):
        read_bytes(tmp_path / "a", "a")
    with pytest.raises(MissingFileError, match=r"^l: is a link to a file that is not there; give another path$"):
        read_bytes(tmp_path / "link", "l", missing="give another path")
    with pytest.raises(DatasetError, match=r"^d: is a folder; give a file$"):
        read_bytes(tmp_path, "d")
