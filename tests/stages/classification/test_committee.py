"""Committees: averages by hand and against bare networks, and members that do not fit."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from classify_world import CLASSES, World
from network_parts import trunk_of
from numpy.typing import NDArray
from PIL import Image

from cache import Payload, Recipe, Store, StoreVersionError
from cache.errors import StageError
from stages.classification.committee import mean_of
from stages.classification.runs import ClassifyRun, Looked
from stages.classification.saved_runs import lists_of, saved_bytes
from stages.classification.settings import ClassifySettings

SETTINGS: dict[str, Any] = {"views": ("1_crop", "dense_fine"), "scales_px": (72, 88)}


def saved(world: World, name: str) -> Path:
    """Run the stage and put its lists aside."""
    shutil.rmtree(world.output("dense"), ignore_errors=True)
    world.run()
    path = world.place("saved") / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(saved_bytes(lists_of(world.output("manifest").parent)))
    return path


def committee(world: World, *names: str, **settings: Any) -> dict[str, Any]:
    world.change(classify=ClassifySettings(**(SETTINGS | settings), committee=names))
    return world.report()


def test_a_mean_by_hand(tmp_path: Path) -> None:
    """Two networks with outputs in another order, one of them with one more; two pictures, three classes."""
    store = Store(tmp_path)
    chances = {
        "first": np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]),  # of classes a, b, c in this order
        "second": np.array([[0.1, 0.3, 0.2, 0.4], [0.25, 0.25, 0.25, 0.25]]),  # of c, a, another, b
    }
    outputs = {"first": (0, 1, 2), "second": (1, 3, 0)}
    views = 4, 9  # the centre crop, and its mirror image, which is not looked at
    found = {}
    for name, rows in chances.items():
        keys = []
        for i, row in enumerate(rows):
            logits = np.log(np.stack([row, row[::-1]])) - 3.0
            payload = Payload({"fc8": logits.astype(np.float32)}, {"count": 2}, "hdf5")
            keys.append(store.put(Recipe("classify", 1, {}, {"of": name, "picture": i}), payload))
        looked = Looked("toy", ("a", "b", "c"), ("0" * 64, "1" * 64), 73, views, ())
        found[name] = ClassifyRun(looked, outputs[name], tuple(keys), {})
    for picture, expected in {"0" * 64: [0.5, 0.3, 0.1], "1" * 64: [0.175, 0.275, 0.425]}.items():
        scores = [run.scores(store, picture, ["1_crop"], ())["1_crop"] for run in found.values()]
        np.testing.assert_allclose(mean_of(scores), expected, rtol=1e-6)


def bare_chances(world: World, file: Path) -> torch.Tensor:
    """The centre crop of a picture through the bare network, at 73 px: its classes' probabilities."""
    pixels: NDArray[Any] = (np.asarray(Image.open(file), np.float32) / 255 - 0.5) / 0.25
    h, w = pixels.shape[:2]
    shape = (int(w * 73 / min(h, w) + 0.5), int(h * 73 / min(h, w) + 0.5))
    resized = cv2.resize(pixels, shape, interpolation=cv2.INTER_LINEAR)
    top, left = (resized.shape[0] - 64) // 2, (resized.shape[1] - 64) // 2
    crop = np.ascontiguousarray(resized[top : top + 64, left : left + 64].transpose(2, 0, 1))[None]
    with torch.no_grad():
        chances = torch.softmax(trunk_of(world.network)(torch.from_numpy(crop)).double(), 1)[0]
    return chances[[world.outputs.index(label) for label in CLASSES]]


def test_rows_of_three_networks_are_those_of_their_mean(tmp_path: Path) -> None:
    world = World(tmp_path, None, **SETTINGS)
    files = sorted((tmp_path / "pictures/test").rglob("*.png"))
    chances, own_rows = [], []
    for seed, name in ((0, "a"), (2, "b"), (7, "")):
        if name == "b":
            world.outputs = (*CLASSES, "zoo")  # another order of outputs
        world.take_network(seed)
        chances.append(torch.stack([bare_chances(world, file) for file in files]))
        if name:
            saved(world, name)
        own_rows.append(world.report() if not name else {})
    before = world.listed().entries, len(world.computed)
    report = committee(world, "a", "b")
    assert (world.listed().entries, len(world.computed)) == before  # nothing is computed for it
    assert {name: report[name] for name in own_rows[-1]} == own_rows[-1]
    labels = [CLASSES.index(file.parent.name) for file in files]

    def errors(of: torch.Tensor) -> dict[str, Any]:
        order = of.argsort(dim=1, descending=True).tolist()
        wrong = [[label not in row[:top] for row, label in zip(order, labels, strict=True)] for top in (1, 5)]
        return dict(zip(("top1_error", "top5_error"), (100 * np.mean(rows) for rows in wrong), strict=True))

    assert report["1_crop"] == pytest.approx(errors(chances[-1]))
    of_all, without_one = torch.stack(chances).mean(0), [(one + chances[2]) / 2 for one in chances[:2]]
    assert report["committee: 1_crop"] == pytest.approx(errors(of_all))
    others = [json.dumps(errors(one)) for one in (*chances, *without_one)]
    assert json.dumps(errors(of_all)) not in others  # or this shows nothing
    assert set(report) == {"pictures", "classes", "1_crop", "dense_fine", "committee: 1_crop", "committee: dense_fine"}


def test_a_member_that_is_the_run_itself_is_told_and_changes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, None, **SETTINGS)
    saved(world, "itself")
    report = committee(world, "itself")
    for name in SETTINGS["views"]:
        assert report[f"committee: {name}"] == report[name]
    assert world.log.warnings == ["classify.committee: itself is this run once more, whose network counts twice"]


def test_only_what_all_have_has_a_row_and_a_member_may_have_more(tmp_path: Path) -> None:
    world = World(tmp_path, None, views=("10_crops",))
    saved(world, "crops")
    world.take_network(4)
    world.change(classify=ClassifySettings(views=("1_crop", "dense_coarse"), scales_px=(104, 88, 72)))
    saved(world, "both")
    world.take_network(3)
    found = committee(world, "both", views=("dense_fine", "1_crop"), scales_px=(72, 88))
    assert {"committee: 1_crop", "committee: dense_fine"} <= set(found)  # the member's other strides and scales
    assert {name for name in committee(world, "crops", "both") if name.startswith("committee")} == {"committee: 1_crop"}
    with pytest.raises(StageError, match=r"committee: crops and this run have none of dense_fine in common; save them"):
        committee(world, "crops", views=("dense_fine",))


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    body = json.loads(path.read_text())
    change(body)
    path.write_text(json.dumps(body))


def views_of(body: dict[str, Any]) -> dict[str, Any]:
    summary: dict[str, Any] = body["lists"]["views"]["summary"]
    return summary


MISFITS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "dataset": (
        lambda body: views_of(body).update(dataset="cats"),
        r"^classify.committee: a: is of dataset cats, and this run of toy",
    ),
    "pictures": (
        lambda body: views_of(body)["images"].__setitem__(0, "f" * 64),
        r"^classify.committee: a: tested 12 pictures, and this run 12, of which 11 are the same; set manifest.test",
    ),
    "classes": (
        lambda body: views_of(body)["classes"].reverse(),
        r"^classify.committee: a: tells fox, elk, .*, in this order; set manifest.classes alike",
    ),
    "size": (
        lambda body: views_of(body).update(short_side_px=90),
        r"^classify.committee: a: looked at pictures of 90 px, and this run at 73; set classify.short_side_px",
    ),
    "scales": (
        lambda body: body["lists"].pop("88"),
        r"^classify.committee: a: has dense views at 72 px, and this run at 72, 88; save it with these",
    ),
    "half": (lambda body: body["lists"]["72"]["entries"].pop(), r"a.json: its lists are not of one whole run"),
    "two networks": (
        lambda body: body["lists"]["72"]["summary"].update(weights_digest="0"),
        r"a.json: its lists are not of one whole run",
    ),
    "another stage": (
        lambda body: body["lists"]["72"].update(stage="features"),
        r"a.json: its lists are not of one whole run",
    ),
    "older": (lambda body: views_of(body).pop("outputs"), r"a.json: no run of classify, or one of an older version"),
    "no views": (lambda body: body["lists"].pop("views"), r"a.json: no run of classify, or one of an older version"),
    "no list": (lambda body: body.update(lists=[]), r"a.json: damaged, or no saved run; save it again by `rcnn"),
    "no scale": (
        lambda body: body["lists"].update(x=body["lists"]["72"]),
        r"a.json: no run of classify, or one of an older version",
    ),
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, bytes]:
    """A project with a run, and the file of one of another network."""
    world = World(tmp_path_factory.mktemp("pair"), None, **SETTINGS)
    path = saved(world, "a")
    world.take_network(3)
    world.run()
    return world, path.read_bytes()


@pytest.mark.parametrize("case", MISFITS)
def test_a_member_that_does_not_fit_is_one_line(pair: tuple[World, bytes], case: str) -> None:
    world, data = pair
    path = world.place("saved") / "a.json"
    path.write_bytes(data)
    change, said = MISFITS[case]
    edit(path, change)
    with pytest.raises(StageError, match=said) as caught:
        committee(world, "a")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"format": 1, "lists": {"views": 3}}'])
def test_files_that_are_no_saved_runs(pair: tuple[World, bytes], text: bytes) -> None:
    world, _ = pair
    (world.place("saved") / "a.json").write_bytes(text)
    with pytest.raises(StageError, match=r"a\.json: damaged, or no saved run; save it again"):
        committee(world, "a")
    (world.place("saved") / "a.json").write_bytes(b'{"format": 2, "lists": {}}')
    with pytest.raises(StoreVersionError, match="a newer version of this program wrote it"):
        committee(world, "a")


def test_all_that_is_wrong_is_told_at_once_before_anything_is_computed(tmp_path: Path) -> None:
    world = World(tmp_path, None, **SETTINGS)
    edit(saved(world, "a"), MISFITS["pictures"][0])
    edit(saved(world, "b"), lambda body: [MISFITS[one][0](body) for one in ("classes", "scales")])
    world.take_network(3)
    computed = len(world.computed)
    with pytest.raises(StageError) as caught:
        committee(world, "a", "b")
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == ["a", "b", "b"]
    with pytest.raises(StageError, match=r"c\.json: no run is saved under this name \(there are: a, b\)"):
        committee(world, "c")
    assert len(world.computed) == computed


def test_missing_objects_of_a_member_are_counted(tmp_path: Path) -> None:
    world = World(tmp_path, None, **SETTINGS)
    saved(world, "a")
    keys = [*world.listed().keys.values()]
    for key in keys[:3]:
        shutil.rmtree(world.store.path("classify", key))
    world.take_network(3)
    with pytest.raises(
        StageError, match=r"^classify.committee: a: 3 of its 36 objects are not in the store .*store; `"
    ):
        committee(world, "a")
    assert "committee: dense_fine" in committee(world, "a", views=("dense_fine",))  # which needs none of those


def test_no_names_twice_nor_of_other_signs() -> None:
    for names in (("a", "a"), ("../a",), ("",)):
        with pytest.raises(ValueError, match="committee"):
            ClassifySettings(committee=names)
