"""Which files ``rcnn detect`` reads, and what it calls their pictures."""

from pathlib import Path

from pipeline.cli.detect import _files


def test_a_file_named_twice_is_read_once(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg"):
        (folder / name).write_bytes(b"")
    (folder / "c.jpg").symlink_to("a.jpg")
    b, roundabout = folder / "b.jpg", folder / ".." / "folder" / "b.jpg"
    assert _files((b, folder, roundabout)) == [(b, Path("b.jpg")), (folder / "a.jpg", Path("a.jpg"))]


def test_files_of_one_name_are_all_read(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.jpg").write_bytes(b"")
    found = _files((tmp_path / "x" / "a.jpg", tmp_path / "y"))
    assert [str(name) for _, name in found] == ["a.jpg", "a-2.jpg"]
