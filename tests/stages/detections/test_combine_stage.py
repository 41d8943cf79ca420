"""The stage over made-up detectors: what it hands on, what it joins, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_detections import CLASSES, N_IMAGES, made, record
from stage_context import StageContext

from cache import Artifact, Store
from cache.errors import StageError
from manifests import Dataset, save_dataset
from stages.detections.saved import saved_path
from stages.detections.settings import CombineSettings
from stages.detections.suppression import CANDIDATES, Candidates, suppressed, union
from stages.detections.thresholds import stored_thresholds
from stages.graph import root_nodes

NODE = root_nodes()["combine"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project whose own detections are of seed 0, and nothing saved."""
    for name in ("manifest", "detect"):
        (tmp_path / NODE.inputs[name]).parent.mkdir(parents=True)
    (tmp_path / NODE.inputs["saved"]).mkdir()
    images = tuple(record(i, f"{i}.png") for i in range(1, N_IMAGES + 1))
    save_dataset(Dataset("toy", CLASSES, images), tmp_path / NODE.inputs["manifest"])
    made(tmp_path, 0).write(tmp_path / NODE.inputs["detect"])
    return tmp_path


def keep(root: Path, name: str, artifact: Artifact) -> Artifact:
    artifact.write(saved_path(root / NODE.inputs["saved"], name))
    return artifact


def context_of(root: Path, *detectors: str, nms_iou: float = 0.3) -> StageContext:
    return StageContext(root, "combine", {"combine": CombineSettings(detectors=detectors, nms_iou=nms_iou)})


def run(root: Path, *detectors: str, nms_iou: float = 0.3) -> StageContext:
    context = context_of(root, *detectors, nms_iou=nms_iou)
    context.run()
    return context


def result(root: Path) -> Artifact:
    return Artifact.read(root / NODE.outputs["manifest"])


def stored(root: Path, artifact: Artifact, image: int) -> dict[str, Any]:
    return dict(Store(root / "store").get(artifact.stage, artifact.keys[image]).arrays)


def test_alone_it_hands_on_the_list_as_it_is(root: Path) -> None:
    for name in ("manifest", "saved"):  # needs neither
        path = root / NODE.inputs[name]
        path.rename(path.with_name("away"))
    before = (root / NODE.inputs["detect"]).read_bytes()
    assert run(root).computed == []
    assert (root / NODE.outputs["manifest"]).read_bytes() == before


def test_the_detections_are_those_of_the_union(root: Path) -> None:
    # the other's images have other ids and another order
    own, other = Artifact.read(root / NODE.inputs["detect"]), keep(root, "spp", made(root, 1, (203, 201, 202)))
    assert run(root, "spp", nms_iou=0.5).computed == [1, 2, 3]
    combined = result(root)
    assert combined.stage == "combine"
    assert list(combined.keys) == list(own.keys)
    store = Store(root / "store")
    for i in own.keys:
        parts = [store.get("detect", key, CANDIDATES).arrays for key in (own.keys[i], other.keys[200 + i])]
        expected = suppressed(union([Candidates(*(p[name] for name in CANDIDATES)) for p in parts]), 0.5).arrays()
        found = stored(root, combined, i)
        assert set(found) == set(expected)
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array)
        assert len(found["bbox.scores"]) != len(suppressed(Candidates(*(parts[0][n] for n in CANDIDATES)), 0.5).bbox)


def test_thresholds_are_of_the_union_and_of_both_ranks(root: Path) -> None:
    own = Artifact.read(root / NODE.inputs["detect"])
    other = keep(root, "spp", made(root, 1, rank_factor=2, detector="zf5, spp"))
    run(root, "spp")
    summary, store = result(root).summary, Store(root / "store")
    scores = np.concatenate(
        [
            arrays["candidates.scores"][arrays["candidates.labels"] == 0]
            for artifact in (own, other)
            for key in artifact.keys.values()
            for arrays in [store.get("detect", key).arrays]
        ]
    )
    assert summary["thresholds"]["cat"] == np.sort(scores)[::-1][(5 + 2) * N_IMAGES - 1]
    assert summary["rank_factor"] == 7
    assert summary["detectors"] == {"spp": other.digest}
    assert summary["detector"] == "svm; zf5, spp"  # the project's own is of an older version, which did not say
    assert {k: summary[k] for k in ("classifier", "regressed", "classes", "images")} == {
        k: own.summary[k] for k in ("classifier", "regressed", "classes", "images")
    }


def test_the_order_of_the_list_and_the_names_change_no_object(root: Path) -> None:
    keep(root, "a", made(root, 1))
    keep(root, "b", made(root, 2))
    run(root, "a", "b")
    first = result(root).entries
    assert run(root, "b", "a").computed == []
    assert result(root).entries == first
    # nor which of them is the project's own
    keep(root, "own", made(root, 0))
    made(root, 2).write(root / NODE.inputs["detect"])
    assert run(root, "own", "a").computed == []
    assert run(root, "own", "a", nms_iou=0.4).computed == [1, 2, 3]
    assert run(root, "own").computed == [1, 2, 3]


def test_the_detector_itself_adds_nothing_and_is_warned_of(root: Path) -> None:
    own = made(root, 0)
    limits = stored_thresholds(Store(root / "store"), [("detect", list(own.keys.values()))], CLASSES, 5)
    assert all(limit is not None for limit in limits.values())
    keep(root, "same", own)
    context = run(root, "same")
    assert context.log.warnings == [
        "combine.detectors: same is the project's own detector once more, which adds nothing"
    ]
    combined = result(root)
    assert combined.summary["thresholds"] == limits
    for i in own.keys:
        alone, together = stored(root, own, i), stored(root, combined, i)
        for name in together:
            np.testing.assert_array_equal(together[name], alone[name])


MISFITS = [
    ({"classes": ["dog", "cat"]}, "detects dog, cat, and this project cat, dog"),
    ({"classifier": "softmax"}, "scores of a softmax and of a svm are not on one scale"),
    ({"regressed": False}, "box regression is off in one and on in the other"),
    ({"ids": (1, 2, 4)}, "searched 3 images, and this project 3, of which 2 are the same"),
    ({"ids": (1, 2, 3, 4)}, "searched 4 images, and this project 3, of which 3 are the same"),
]


@pytest.mark.parametrize(("how", "line"), MISFITS)
def test_what_does_not_fit_is_one_line(root: Path, how: dict[str, Any], line: str) -> None:
    keep(root, "fits", made(root, 2))
    keep(root, "other", made(root, 1, **how))
    with pytest.raises(StageError) as error:
        run(root, "fits", "other")
    (text,) = str(error.value).splitlines()
    assert text.startswith(f"combine.detectors: other: {line}")
    assert not (root / NODE.outputs["manifest"]).exists()


def test_all_problems_are_told_at_once(root: Path) -> None:
    keep(root, "a", made(root, 1, classifier="softmax", regressed=False))
    keep(root, "b", made(root, 2, (1, 2)))
    with pytest.raises(StageError) as error:
        run(root, "a", "b")
    assert len(str(error.value).splitlines()) == 3


def test_objects_that_are_gone_are_told_before_any_is_computed(root: Path) -> None:
    import shutil

    other = keep(root, "spp", made(root, 1))
    shutil.rmtree(Store(root / "store").path("detect", other.keys[2]))
    context = context_of(root, "spp")
    with pytest.raises(StageError, match=r"1 of 3 objects of spp are not in the store .*rcnn detections save spp"):
        context.run()
    assert context.computed == []


def test_files_that_are_no_saved_detections(root: Path) -> None:
    keep(root, "there", made(root, 1))
    with pytest.raises(StageError, match=r"their\.json: no detections are saved under this name \(there are: there\)"):
        run(root, "their")
    path = saved_path(root / NODE.inputs["saved"], "there")
    for text in ("", "[]", "{}", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(StageError, match=r"there\.json: damaged, or no detections"):
            run(root, "there")
    keep(root, "there", Artifact("features", 1, {}, {}, (), {}))
    with pytest.raises(StageError, match=r"there\.json: lists results of stage features"):
        run(root, "there")
    wrong: list[dict[str, Any]] = [{"images": ["0" * 64]}, {"images": 3}, {"classes": [1, 2]}, {"regressed": 1}]
    for artifact in (Artifact("detect", 2, {}, {}, (), {"classifier": "svm"}), *(made(root, 1, **w) for w in wrong)):
        keep(root, "there", artifact)
        with pytest.raises(StageError, match=r"there\.json: made by an older version"):
            run(root, "there")


def test_a_name_listed_twice_or_that_leads_elsewhere_is_refused() -> None:
    from pydantic import ValidationError

    for names in (("a", "a"), ("../a",), ("",), ("a/b",), ("-a",)):
        with pytest.raises(ValidationError):
            CombineSettings(detectors=names)


def test_the_object_says_what_it_is(root: Path) -> None:
    keep(root, "spp", made(root, 1))
    run(root, "spp")
    combined = result(root)
    text = Store(root / "store").describe("combine", combined.keys[1])
    assert text["recipe"]["inputs"]["detections"] == text["attrs"]["detections"]
    assert text["attrs"]["image"] == "1.png"
    assert text["attrs"]["classes"] == list(CLASSES)
    assert json.dumps(text)
