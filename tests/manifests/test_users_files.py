"""What a user has is read in place, and never written to."""

from pathlib import Path

import pytest

from manifests import ImageSource, ReadOptions, import_dataset, refresh


@pytest.mark.parametrize("form", ["voc", "coco", "yolo"])
def test_nothing_of_the_users_is_written_to(form: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    given = [{"a": "0 .5 .5 .5 .5", "b": None}, None, "cat"] if form == "yolo" else []
    root: Path = request.getfixturevalue(f"make_{form}")(*given)
    theirs = root if root.is_dir() else root.parent

    def state() -> dict[str, tuple[int, int, int]]:
        return {
            str(path): ((now := path.stat()).st_ino, now.st_mtime_ns, now.st_ctime_ns)
            for path in (theirs, *theirs.rglob("*"))
        }

    artifacts = tmp_path.parent / f"{tmp_path.name}-artifacts"
    before = state()
    done = import_dataset(form, root, "mine", ReadOptions(), artifacts)
    refresh("mine", artifacts)
    for record in done.dataset.images:
        ImageSource.registered(artifacts / "datasets/mine").read(record)
    assert len(before) > 3 and state() == before
