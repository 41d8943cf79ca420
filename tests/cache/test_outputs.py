"""Files written where the user says: none that this program did not write is ever replaced."""

import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.errors import OutputError, StoreError, StorePermissionError
from cache.outputs import RECORD, OutputFolder, ours

INSTEAD = "give another folder"


def opened(folder: Path) -> OutputFolder:
    return OutputFolder(folder, INSTEAD)


def written(folder: Path, **files: bytes) -> None:
    out = opened(folder)
    out.prepare()
    for name, data in files.items():
        out.write(name, data)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refusal(folder: Path, *names: str, inputs: tuple[Path, ...] = ()) -> str:
    before = contents(folder)
    with pytest.raises(OutputError) as caught:
        opened(folder).check(names, inputs)
    assert contents(folder) == before
    assert "\n" not in str(caught.value) and str(caught.value).endswith(INSTEAD)
    return str(caught.value)


def a_file(path: Path, _: Path) -> None:
    path.write_bytes(b"the user's")


def a_link_to_a_file(path: Path, elsewhere: Path) -> None:
    elsewhere.write_bytes(b"the user's")
    path.symlink_to(elsewhere)


def a_link_to_nothing(path: Path, elsewhere: Path) -> None:
    path.symlink_to(elsewhere)


def a_hard_link(path: Path, elsewhere: Path) -> None:
    elsewhere.write_bytes(b"the user's")
    path.hardlink_to(elsewhere)


def a_folder(path: Path, _: Path) -> None:
    path.mkdir()


def a_pipe(path: Path, _: Path) -> None:
    os.mkfifo(path)


def one_of_ours_edited(path: Path, _: Path) -> None:
    written(path.parent, **{path.name: b"ours"})
    path.write_bytes(b"ours, edited")


def one_of_ours_under_another_name(path: Path, _: Path) -> None:
    written(path.parent, another=b"ours")
    (path.parent / "another").rename(path)


def a_link_to_one_of_ours(path: Path, _: Path) -> None:
    written(path.parent, **{path.name: b"ours", "another": b"ours"})
    path.unlink()
    path.symlink_to("another")


@pytest.mark.parametrize(
    "put",
    [
        a_file,
        a_link_to_a_file,
        a_link_to_nothing,
        a_hard_link,
        a_folder,
        a_pipe,
        one_of_ours_edited,
        one_of_ours_under_another_name,
        a_link_to_one_of_ours,
    ],
)
def test_what_is_not_ours_is_refused(tmp_path: Path, put: Callable[[Path, Path], None]) -> None:
    put(tmp_path / "a.jpg", tmp_path / "elsewhere")
    assert str(tmp_path / "a.jpg") in refusal(tmp_path, "b.jpg", "a.jpg")


@pytest.mark.parametrize("put", [a_file, a_link_to_a_file, a_link_to_nothing])
def test_a_folder_of_an_output_is_no_file_and_no_link(tmp_path: Path, put: Callable[[Path, Path], None]) -> None:
    put(tmp_path / "sub", tmp_path / "elsewhere")
    assert str(tmp_path / "sub:") in refusal(tmp_path, "sub/a.jpg").replace(" ", ":")


def test_what_came_while_a_run_took_its_time_stays(tmp_path: Path) -> None:
    out = opened(tmp_path)
    out.check(["a.jpg", "b.npy"])
    out.prepare()
    for name in ("a.jpg", "b.npy"):
        (tmp_path / name).write_bytes(b"the user's")
    with pytest.raises(OutputError):
        out.write("a.jpg", b"ours")
    with pytest.raises(OutputError), out.written_aside("b.npy") as path:
        path.write_bytes(b"ours")
    assert set(contents(tmp_path)) == {"a.jpg", "b.npy", RECORD}
    assert (tmp_path / "a.jpg").read_bytes() == (tmp_path / "b.npy").read_bytes() == b"the user's"


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.sampled_from(["a", "B", "sub/a", "sub/é"]), st.binary(max_size=4)), max_size=8))
def test_ours_may_be_replaced_by_any_later_run(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[str, bytes]]
) -> None:
    folder = tmp_path_factory.mktemp("out")
    for name, data in runs:
        out = opened(folder)
        out.check([name])
        out.prepare()
        if data:
            out.write(name, data)
        else:
            with out.written_aside(name) as path:
                path.write_bytes(data)
    there = contents(folder)
    assert there == {**dict(runs), **({RECORD: there[RECORD]} if runs else {})}
    assert ours(p for p in folder.rglob("*") if p.is_file()) == {folder / name for name, _ in runs}


def test_an_input_is_not_replaced_even_if_it_is_ours(tmp_path: Path) -> None:
    written(tmp_path / "out", a=b"ours")
    (tmp_path / "link").symlink_to("out/a")
    refusal(tmp_path / "out", "a", inputs=(tmp_path / "link",))
    opened(tmp_path / "out").check(["a"], [tmp_path / "none"])


def test_the_first_of_many_are_named(tmp_path: Path) -> None:
    names = [f"{i}.jpg" for i in range(9)]
    for name in names:
        (tmp_path / name).touch()
    said = refusal(tmp_path, *names)
    assert all(str(tmp_path / name) in said for name in names[:3]) and "3.jpg" not in said and "and 6 more" in said


def test_force_replaces_files_but_no_folder_and_nothing_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "photo").write_bytes(b"the user's")
    (tmp_path / "link").symlink_to("photo")
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    out = OutputFolder(tmp_path, INSTEAD, force=True)
    out.check(["link", "file"])
    with pytest.raises(OutputError):
        out.check(["folder"])
    out.prepare()
    for name in ("link", "file"):
        out.write(name, b"new")
    assert (tmp_path / "photo").read_bytes() == b"the user's"
    assert (tmp_path / "file").read_bytes() == (tmp_path / "link").read_bytes() == b"new"


def test_protected_folders_take_nothing_also_through_links(tmp_path: Path) -> None:
    (tmp_path / "images/sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to("images/sub")
    for folder in ("images", "images/sub", "images/new/deep", "link"):
        with pytest.raises(OutputError, match="the user's images"):
            opened(tmp_path / folder).check(["a"], protected={tmp_path / "images": "the user's images"})
    opened(tmp_path).check(["a"], protected={tmp_path / "images": "the user's images"})


@pytest.mark.parametrize("damage", [b'{"name": "a", "sha', b"\x00\xff\n[]\n7\n", b'{"name": 3}\n'])
def test_a_record_that_a_crash_damaged_forgets_one_line_at_most(tmp_path: Path, damage: bytes) -> None:
    written(tmp_path, a=b"1", b=b"2")
    with (tmp_path / RECORD).open("ab") as record:
        record.write(damage)
    written(tmp_path, a=b"3")
    assert ours([tmp_path / "a", tmp_path / "b"]) == {tmp_path / "a", tmp_path / "b"}


def test_a_record_that_is_none_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / RECORD).write_bytes(b"the user's")
    with pytest.raises(OutputError, match="no record"):
        opened(tmp_path).prepare()
    (tmp_path / RECORD).unlink()
    (tmp_path / "elsewhere").write_bytes(b"")
    (tmp_path / RECORD).symlink_to("elsewhere")
    with pytest.raises(StoreError, match=re.escape(RECORD)):
        opened(tmp_path).prepare()
    assert (tmp_path / "elsewhere").read_bytes() == b""


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    name = "ä" * 125 + ".jpg"
    written(tmp_path, **{name: b"x"})
    with opened(tmp_path).written_aside(name) as path:
        path.write_bytes(b"y")
    assert (tmp_path / name).read_bytes() == b"y"


def test_what_cannot_be_written_to_says_to_give_another(
    public_dir: Path, read_only: Callable[[Path], AbstractContextManager[None]]
) -> None:
    """No permission, a file in a folder's place, a file system that makes no folders; before and at the writing."""
    (public_dir / "file").write_bytes(b"")
    ready = opened(public_dir)
    ready.prepare()
    with read_only(public_dir):
        for attempt in (ready.prepare, opened(public_dir / "new").prepare, lambda: ready.write("a", b"")):
            with pytest.raises(StorePermissionError, match=r"write permission or give another folder by --out$"):
                attempt()
    for place in (public_dir / "file/below", Path("/proc/rcnn")):
        with pytest.raises(StoreError, match=f"^{place}: .* while making the folder; give another folder by --out$"):
            opened(place).prepare()
    elsewhere = OutputFolder(public_dir / "file/x", INSTEAD, elsewhere="give a file in another folder")
    with pytest.raises(StoreError, match=r"; give a file in another folder$"):
        elsewhere.prepare()
