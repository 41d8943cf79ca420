"""Paths in DVC's copies of a project, and those in the project itself."""

from pathlib import Path

import pytest

from cache.experiments import original


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/p/.dvc/tmp/exps/standalone/tmpab/data/1.jpg", "/p/data/1.jpg"),
        ("/p/.dvc/tmp/exps/tmpab/data/1.jpg", "/p/data/1.jpg"),
        ("/p/.dvc/tmp/exps/tmpab", "/p"),
        ("/p/.dvc/tmp/exps/standalone/tmpab", "/p"),
        ("/a/.dvc/tmp/exps/x/b/.dvc/tmp/exps/y/c", "/a/.dvc/tmp/exps/x/b/c"),  # a project that lies in a copy
        ("/p/data/1.jpg", "/p/data/1.jpg"),
        ("/p/.dvc/cache/files/md5/ab", "/p/.dvc/cache/files/md5/ab"),
        ("/p/.dvc/tmp/exps", "/p/.dvc/tmp/exps"),
    ],
)
def test_a_copys_path_is_the_projects(path: str, expected: str) -> None:
    assert original(Path(path)) == Path(expected)


def test_the_folder_one_stands_in_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / ".dvc/tmp/exps/standalone/tmpab"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    assert original(Path()) == tmp_path
    monkeypatch.chdir(tmp_path)
    assert original(Path()) == Path()
