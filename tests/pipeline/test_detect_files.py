"""Which files ``rcnn detect`` reads, and what it calls their pictures."""

from pathlib import Path

import pytest

from cache.outputs import OutputFolder, name_key
from pipeline.cli.detect_files import RESULTS, files_to_read


def make(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name_key(path).encode())
    return paths


def test_a_file_named_twice_is_read_once(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    make(folder, "a.jpg", "b.jpg")
    (folder / "c.jpg").symlink_to("a.jpg")
    b, roundabout = folder / "b.jpg", folder / ".." / "folder" / "b.jpg"
    files, _ = files_to_read((b, folder, roundabout))
    assert files == [(b, Path("b.jpg")), (folder / "a.jpg", Path("a.jpg"))]


@pytest.mark.parametrize(
    ("given", "drawn"),
    [
        (["x/a.jpg", "y/a.jpg"], ["a.jpg", "a-2.jpg"]),
        (["x/a.png", "x/a.jpg", "x/a.bmp"], ["a.jpg", "a-2.jpg", "a-3.jpg"]),
        (["x/a.JPG", "y/A.jpg"], ["a.jpg", "A-2.jpg"]),  # one file where the file system knows no case
        (["x/\u00e9.jpg", "y/e\u0301.jpg"], ["\u00e9.jpg", "e\u0301-2.jpg"]),  # one file where it knows one form
        (["x/a.jpg", "x/a-2.jpg", "y/a.jpg"], ["a.jpg", "a-2.jpg", "a-3.jpg"]),
        (["x/a.b.png", "x/photo.x.gif"], ["a.b.jpg", "photo.x.jpg"]),
    ],
)
def test_no_two_pictures_have_one_name(tmp_path: Path, given: list[str], drawn: list[str]) -> None:
    files, _ = files_to_read(make(tmp_path, *given))
    assert [str(name) for _, name in files] == drawn


def test_a_folder_may_be_called_as_a_picture_or_as_the_results(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "a.jpg/b.png", f"{RESULTS}/c.png")
    files, _ = files_to_read([tmp_path])
    names = [name for _, name in files]
    folders = {parent for name in [*names, Path(RESULTS)] for parent in name.parents}
    assert len(set(names)) == 3 and not folders & {*names, Path(RESULTS)}


def test_what_detect_drew_is_not_read_where_a_folder_is_searched(tmp_path: Path) -> None:
    (photo,) = make(tmp_path, "photos/a.png")
    out = OutputFolder(tmp_path / "photos/out", "")
    out.prepare()
    out.write("a.jpg", b"drawn")
    out.write("sub/a.jpg", b"drawn too")
    drawn = [tmp_path / "photos/out/a.jpg", tmp_path / "photos/out/sub/a.jpg"]
    assert files_to_read([tmp_path / "photos"]) == ([(photo, Path("a.jpg"))], drawn)
    assert [p for p, _ in files_to_read([drawn[0]])[0]] == drawn[:1]  # asked for by its name
    drawn[1].write_bytes(b"edited by the user")
    assert [p for p, _ in files_to_read([tmp_path / "photos"])[0]] == [photo, drawn[1]]
