"""Which files ``rcnn detect`` and ``rcnn extract`` read, and what they call those that they make of them."""

import os
import random
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from cache.errors import StageError
from cache.outputs import OutputFolder, name_key
from manifests.images import IMAGE_SUFFIXES, UNREAD_SUFFIXES
from pipeline.cli.picture_files import Named
from pipeline.cli.picture_files import files_to_read as files_of
from stages.trained_files import pixels_of

RESULTS = "results.json"


def files_to_read(given: Sequence[Path]) -> tuple[list[Named], list[str]]:
    """What a command that draws pictures, and writes a file of results beside them, reads."""
    return files_of(given, ".jpg", [RESULTS])


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


def test_files_of_another_form_have_their_own_names(tmp_path: Path) -> None:
    files, _ = files_of(make(tmp_path, "x/a.jpg", "x/a.png", "y/b.c.jpg", f"y/{RESULTS}.png"), ".npz")
    assert [str(name) for _, name in files] == ["a.npz", "a-2.npz", "b.c.npz", "results.json.npz"]


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
    files, passed_over = files_to_read([tmp_path / "photos"])
    assert files == [(photo, Path("a.jpg"))] and "2 that an earlier run drew" in passed_over[0]
    assert [p for p, _ in files_to_read([drawn[0]])[0]] == drawn[:1]  # asked for by its name
    drawn[1].write_bytes(b"edited by the user")
    assert [p for p, _ in files_to_read([tmp_path / "photos"])[0]] == [photo, drawn[1]]


def test_links_that_lead_nowhere_are_left_for_reading_to_tell(tmp_path: Path) -> None:
    (photo,) = make(tmp_path, "a.jpg")
    links = [tmp_path / name for name in ("gone.jpg", "gone2.png", "round.jpg")]
    for link, target in zip(links, ("nowhere", "nowhere", "round.jpg"), strict=True):
        link.symlink_to(target)
    files, passed_over = files_to_read([tmp_path])
    assert [path for path, _ in files] == [photo, *links] and passed_over == []
    for path in links:
        with pytest.raises(StageError, match=f"^{path}: cannot be read .*; check the path$"):
            pixels_of(path)
    photo.unlink()
    with pytest.raises(StageError, match=r"no images in this folder \(3 names of pictures lead to no file \(gone.jpg"):
        files_to_read([tmp_path])


PASSED_OVER = {
    "IMG_1.HEIC": "HEIC 1",
    "b.avif": "AVIF 1",
    "._a.jpg": "",  # macOS's own, no picture
    ".ipynb_checkpoints/a-checkpoint.jpg": "hidden",
    ".hidden.png": "hidden",
    "__MACOSX/a.jpg": "",
    "notes.txt": "",
}


def test_of_a_mixed_folder_all_that_can_be_read_is_and_the_rest_is_named(tmp_path: Path) -> None:
    taken = ["a.jpg", "b.JPEG", "scan.jfif", "scan2.jpe", "sub/c.png", "étude %20 #1,b.jpg"]
    make(tmp_path, *taken, *PASSED_OVER)
    os.mkfifo(tmp_path / "pipe.jpg")
    files, passed_over = files_to_read([tmp_path])
    assert sorted(str(path.relative_to(tmp_path)) for path, _ in files) == sorted(taken)
    said = "\n".join(passed_over)
    assert all(what in said for what in [*PASSED_OVER.values(), "1 name of a picture is no file's (pipe.jpg)"])
    assert all(line.startswith(f"{tmp_path}: ") for line in passed_over)


@pytest.mark.parametrize(("name", "what"), list(PASSED_OVER.items()))
def test_a_folder_without_any_says_what_it_has(tmp_path: Path, name: str, what: str) -> None:
    make(tmp_path, name)
    with pytest.raises(StageError, match="no images in this folder") as caught:
        files_to_read([tmp_path])
    assert what in str(caught.value) and "\n" not in str(caught.value)


def test_each_picture_of_a_folder_is_read_or_counted(tmp_path: Path) -> None:
    """Pictures seen = pictures read + pictures that a line counts, whatever the folder holds."""
    rng = random.Random(0)
    suffixes = sorted(IMAGE_SUFFIXES | UNREAD_SUFFIXES)
    for turn in range(20):
        names = {
            f"{rng.choice(['', 'sub/', '.hidden/'])}{rng.choice(['', '.'])}{i}{rng.choice(suffixes)}" for i in range(9)
        }
        make(tmp_path / str(turn), "a.jpg", *names)
        files, passed_over = files_to_read([tmp_path / str(turn)])
        counted = sum(int(n) for line in passed_over for n in re.findall(r": (\d+) pictures? (?:is|are) ", line))
        assert len(files) + counted == len(names) + 1
