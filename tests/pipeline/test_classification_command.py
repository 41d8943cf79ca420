"""``rcnn classification save`` on made-up runs: what is put aside, and that its objects are kept."""

import json
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest

from cache import Artifact, Payload, Recipe, Store

Run = Callable[..., tuple[int, str, str]]
DIGESTS = ["0" * 64, "1" * 64]


def classified(project: Path, weights: str = "w", **summary: Any) -> dict[str, Artifact]:
    """Leave what a run of classify leaves: two pictures' views, and their windows at one scale."""
    store, folder = Store(project / "artifacts"), project / "artifacts/classify"
    (folder / "dense").mkdir(parents=True, exist_ok=True)
    about = {"dataset": "pets", "network": "small", "weights_digest": weights}
    seen = {"classes": ["cat", "dog"], "outputs": [1, 0], "images": DIGESTS, "views": [4], "short_side_px": 73}
    lists = {}
    for name, more in (("views", seen | summary), ("72", {"scale_px": 72})):
        entries = []
        for i in range(2):
            recipe = Recipe("classify", 1, {"weights": weights, "list": name}, {"image": i})
            entries.append((i, store.put(recipe, Payload({}, {"image": f"{i}.png", "count": 0}, "hdf5"))))
        lists[name] = Artifact("classify", 1, {}, {}, tuple(entries), about | more)
        lists[name].write(folder / ("manifest.json" if name == "views" else f"dense/{name}.json"))
    return lists


def test_all_lists_of_the_run_are_put_aside_and_their_objects_kept(run: Run, project: Path) -> None:
    lists = classified(project)
    code, said, err = run("-C", project, "classification", "save", "m1")
    path = project / "classification/saved/m1.json"
    assert (code, said) == (0, f"{path}: small; 2 pictures; classify.committee: [m1] averages it with another\n"), err
    body = json.loads(path.read_text())
    assert {name: Artifact.from_bytes(json.dumps(one).encode(), name) for name, one in body["lists"].items()} == lists
    classified(project, "other")  # the workspace goes on
    gone = ("-C", project, "cache", "gc", "--delete", "--grace", "0", "--workspace")
    assert run(*gone)[0] == 0
    store = Store(project / "artifacts")
    assert not store.missing("classify", [key for one in lists.values() for key in one.keys.values()])
    rmtree(store.path("classify", lists["72"].keys[0]))
    code, said, _ = run("-C", project, "cache", "verify")
    assert code == 2 and f"{path}: 1 objects of it are not in the store" in said
    path.unlink()
    assert run(*gone)[0] == 0
    assert len(store.missing("classify", [key for one in lists.values() for key in one.keys.values()])) == 4


def test_what_is_saved_is_listed_with_what_the_store_lacks(run: Run, project: Path) -> None:
    assert run("-C", project, "classification", "ls")[:2] == (0, "name  dataset  pictures  network  views\n")
    lists = classified(project)
    assert run("-C", project, "classification", "save", "m1")[0] == 0
    rmtree(Store(project / "artifacts").path("classify", lists["72"].keys[0]))
    code, said, _ = run("-C", project, "classification", "ls")
    assert code == 0
    shown = "m1 pets 2 small 1_crop dense:72px 1 missing"
    assert said.splitlines()[1].split() == shown.split()
    (project / "classification/saved/m2.json").write_text("{")
    code, said, err = run("-C", project, "classification", "ls")
    assert (code, said) == (2, "") and "m2.json: damaged, or no saved run" in err


def test_no_other_file_and_no_link_is_replaced(run: Run, project: Path) -> None:
    classified(project)
    path = project / "classification/saved/m1.json"
    path.parent.mkdir(parents=True)
    for put in (lambda: path.symlink_to(project / "elsewhere"), lambda: path.write_bytes(b"the user's")):
        put()
        code, said, err = run("-C", project, "classification", "save", "m1")
        assert (code, said) == (2, "") and "m1.json: other results are saved under this name" in err
        path.unlink()
    assert [run("-C", project, "classification", "save", "m1")[0] for _ in range(2)] == [0, 0]
    first = path.read_bytes()
    classified(project, "other")
    assert run("-C", project, "classification", "save", "m1")[0] == 2 and path.read_bytes() == first
    assert run("-C", project, "classification", "save", "m1", "--force")[0] == 0 and path.read_bytes() != first


@pytest.mark.parametrize(
    ("name", "spoil", "expected"),
    [
        ("../a", lambda project: None, "name '../a': letters, digits"),
        (
            "a",
            lambda project: rmtree(project / "artifacts/classify"),
            "artifacts/classify/manifest.json: not found; `dvc",
        ),
        ("a", lambda project: classified(project, outputs=None), "no run of classify, or one of an older version"),
        ("a", lambda project: classified(project, images=DIGESTS[:1]), "its lists are not of one whole run"),
        (
            "a",
            lambda project: rmtree(project / "artifacts/objects/classify"),
            "artifacts/classify: 4 of its 4 objects are not in the store",
        ),
    ],
)
def test_what_cannot_be_saved_is_one_line(
    run: Run, project: Path, name: str, spoil: Callable[[Path], object], expected: str
) -> None:
    classified(project)
    spoil(project)
    code, said, err = run("-C", project, "classification", "save", name)
    assert (code, said) == (2, "") and expected in err
    assert len([line for line in err.splitlines() if line.startswith(("rcnn: ", "Error: "))]) == 1
    assert not (project / "classification").exists()
