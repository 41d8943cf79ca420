"""Fast R-CNN, Faster R-CNN in four steps and trained at once: a tiny project, and what runs again when.

All runs are of one server, which has imported torch once.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from kill import DvcDriver
from tiny_project import REGION_KINDS, TRAININGS, StageServer, change, computed, done, params_file, shorten

from cache import Artifact, Store
from cache.errors import StageError
from manifests import load_dataset
from rcnn import Detector
from stages.faster.network import cut, load_regions
from stages.graph import HEAD, KINDS

# Trained on the project's proposals as "plain" is, and tested on those of another detector's RPN.
MIXED = {"train": "proposals", "test": "steps/propose_1"}
SHARED_KINDS = {name: kind for name, kind in REGION_KINDS.items() if kind != "overfeat"}
DETECTORS = {**SHARED_KINDS, "mixed": "fast"}
NODES = {name: [one.name for one in KINDS[kind].places] for name, kind in DETECTORS.items()}


def weights(project: Path, name: str, node: str) -> bytes:
    return (project / "artifacts/detectors" / name / node / "weights.safetensors").read_bytes()


@pytest.fixture(scope="module")
def finished(server: StageServer, finished_regions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All detectors of one project, to the report. Not to be changed: take ``project``."""
    project = tmp_path_factory.mktemp("regions") / "project"
    shutil.copytree(finished_regions, project)
    done(server.run(project, "detector", "add", "mixed", "--kind", "fast"))
    shorten(project, "mixed")
    change(project, "mixed", "regions", **MIXED)
    done(server.run(project, "detector", "write"))
    done(server.run(project, "-d", "mixed", "run", *NODES["mixed"]))
    return project


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished project."""
    return Path(shutil.copytree(finished, tmp_path / "project"))


@pytest.mark.parametrize("name", SHARED_KINDS)
def test_from_the_dataset_to_the_report(finished: Path, name: str) -> None:
    reports = finished / "reports" / name
    assert 0 <= json.loads((reports / "scores.json").read_text())["voc2010"]["mAP"] <= 1
    page = (reports / "index.html").read_text(encoding="utf-8")
    for node in NODES[name]:
        if node in TRAININGS[1:]:
            assert node in page, f"no curve of {node}"
    found = Artifact.read(finished / f"artifacts/detectors/{name}/roi_detect/manifest.json")
    assert len(found.keys) == 3  # the test images


def test_all_are_compared(server: StageServer, project: Path) -> None:
    done(server.run(project, "compare", *DETECTORS))
    figures = json.loads((project / "reports/comparison/comparison.json").read_text())
    assert set(DETECTORS) <= set(re.findall("|".join(DETECTORS), json.dumps(figures)))
    seconds = figures["detectors"]["mixed"]["cost"]["seconds_per_image"]
    assert {"conv", "rpn", "roi_detect conv", "regions"} <= seconds.keys()  # two networks' convolutions


def test_a_second_run_computes_and_trains_nothing(server: StageServer, project: Path) -> None:
    for name in SHARED_KINDS:
        before = {node: weights(project, name, node) for node in NODES[name] if node in TRAININGS}
        counts = computed(done(server.run(project, "-d", name, "run", *NODES[name])))
        assert set(counts) >= set(before) | {"roi_detect"} and not any(counts.values()), counts
        assert before == {node: weights(project, name, node) for node in before}


def test_another_rate_of_fast_runs_no_rpn_of_step_one(server: StageServer, project: Path) -> None:
    before = {node: weights(project, "steps", node) for node in NODES["steps"] if node in TRAININGS}
    change(project, "steps", "fast", lr=0.004)
    counts = computed(done(server.run(project, "-d", "steps", "run", *NODES["steps"])))
    assert {node: counts[node] for node in ("pretrain", "rpn_1", "propose_1")} == dict.fromkeys(
        ("pretrain", "rpn_1", "propose_1"), 0
    )
    assert counts["maps"] == counts["propose_2"] == 7  # the trunk is another
    after = {node: weights(project, "steps", node) for node in before}
    assert {node for node in before if before[node] != after[node]} == {"fast_1", "rpn_2", "fast_2"}


@pytest.mark.parametrize("name", SHARED_KINDS)
def test_another_suppression_of_detections_runs_nothing_before(server: StageServer, project: Path, name: str) -> None:
    change(project, name, "roi_detect", nms_iou=0.6)
    counts = computed(done(server.run(project, "-d", name, "run", *NODES[name])))
    assert counts.pop("roi_detect") == 3
    assert not any(counts.values()), counts


def test_other_proposals_for_test_train_nothing(server: StageServer, finished: Path, project: Path) -> None:
    assert weights(finished, "mixed", "fast") == weights(finished, "plain", "fast")
    lists = [Artifact.read(finished / f"artifacts/detectors/{name}/roi_detect/manifest.json") for name in DETECTORS]
    assert len({tuple(one.keys.values()) for one in lists}) == len(DETECTORS)
    assert "on another detector's proposals" in lists[-1].summary["detector"]
    assert "on its own proposals" in lists[1].summary["detector"]
    change(project, "mixed", "regions", test="once/propose")
    counts = computed(done(server.run(project, "-d", "mixed", "run", *NODES["mixed"])))
    assert counts.pop("roi_detect") == 3 and not any(counts.values()), counts


def test_proposals_of_an_rpn_are_trained_on(server: StageServer, finished: Path, project: Path) -> None:
    change(project, "mixed", "regions", train="steps/propose_1")
    counts = computed(done(server.run(project, "-d", "mixed", "run", *NODES["mixed"])))
    assert (counts["pretrain"], counts["fast"], counts["roi_detect"]) == (0, 1, 3)
    assert weights(project, "mixed", "fast") != weights(finished, "mixed", "fast")


def test_several_scales_at_test_train_nothing(server: StageServer, finished: Path, project: Path) -> None:
    for name in ("plain", "once"):
        change(project, name, "roi_detect", scales_px=[96, 160, 480])
        counts = computed(done(server.run(project, "-d", name, "run", *NODES[name])))
        assert counts.pop("roi_detect") == 3 and not any(counts.values()), counts
        compared(project, name)


def test_one_more_test_image_is_computed_alone(server: StageServer, project: Path) -> None:
    params = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    params["scenes"]["n_test"] += 1
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    done(server.run(project, "run", "scenes", "manifest", "proposals"))
    counts = computed(done(server.run(project, "-d", "steps", "run", *NODES["steps"])))
    images = {"propose_1": 1, "maps": 1, "propose_2": 1, "roi_detect": 1}
    assert {node: counts[node] for node in images} == images
    assert not any(counts[node] for node in NODES["steps"] if node in TRAININGS), counts


def test_a_training_killed_in_the_midst_ends_with_the_same_bits(
    server: StageServer, finished: Path, project: Path
) -> None:
    shutil.rmtree(project / "artifacts/objects/rpn")
    checkpoints = project / "artifacts/detectors/steps/checkpoints/rpn_1"
    checkpoints.mkdir(parents=True, exist_ok=True)
    killed = server.run(
        project, "-d", "steps", "run", "rpn_1", root=checkpoints, kill_at=60
    )  # in the second checkpoint
    assert killed.status == -9
    assert list(checkpoints.glob("*.safetensors"))
    said = done(server.run(project, "-d", "steps", "run", "rpn_1"))
    assert "going on from the checkpoint at iteration" in said
    assert weights(project, "steps", "rpn_1") == weights(finished, "steps", "rpn_1")
    assert not list(checkpoints.glob("*.safetensors"))


def test_stage_by_stage_gives_the_bits_of_one_process(server: StageServer, finished: Path, project: Path) -> None:
    for stage in ("rpn", "fast", "maps", "propose", "roi_detect"):
        shutil.rmtree(project / "artifacts/objects" / stage)
    shutil.rmtree(project / "artifacts/detectors/steps")
    for node in NODES["steps"]:
        done(server.run(project, "-d", "steps", "run", node))
    for node in ("rpn_1", "fast_1", "rpn_2", "fast_2"):
        assert weights(project, "steps", node) == weights(finished, "steps", node), node
    lists = [
        Artifact.read(folder / "artifacts/detectors/steps/roi_detect/manifest.json") for folder in (project, finished)
    ]
    assert lists[0].keys == lists[1].keys
    scores = [json.loads((folder / "reports/steps/scores.json").read_text()) for folder in (project, finished)]
    assert scores[0] == scores[1]


def compared(project: Path, name: str) -> None:
    """The detector, loaded, finds what the pipeline found."""
    dataset = load_dataset(project / "artifacts/manifest/manifest.json")
    found = Artifact.read(project / f"artifacts/detectors/{name}/roi_detect/manifest.json")
    store, detector = Store(project / "artifacts"), Detector.load(project, name=name)
    for record in dataset.split("test"):
        stored = store.get(found.stage, found.keys[record.id]).arrays
        here = detector(project / "artifacts/datasets/scenes" / record.file_name, min_score=-np.inf)
        order = np.argsort(-stored["bbox.scores"], kind="stable")
        assert len(here) == len(order) > 0
        np.testing.assert_allclose([d.score for d in here], stored["bbox.scores"][order], atol=1e-5)
        np.testing.assert_allclose([d.box for d in here], stored["bbox.boxes"][order], atol=1e-5)


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_of_new_images_finds_what_the_pipeline_found(finished: Path, name: str) -> None:
    compared(finished, name)


@pytest.mark.parametrize(
    ("name", "group", "values", "nodes", "said"),
    [
        ("steps", "rpn", {"scales_px": [24, 24]}, ["rpn_1"], "rpn.scales_px: an entry is listed twice"),
        ("steps", "rpn", {"ratios": [1, 1.0001]}, ["rpn_1"], "1 and 1.0001 rounded as the authors do are both 16 x 16"),
        (
            "steps",
            "rpn",
            {"scales_px": [400], "border_px": 0},
            ["rpn_1"],
            "rpn: no training image has an anchor within",
        ),
        ("once", "rpn", {"scales_px": [400], "border_px": 0}, ["joint"], "rpn: no training image has an anchor within"),
        ("steps", "rpn", {"centres": "authors"}, ["rpn_1"], "rpn.centres: authors are 16 px apart"),
        ("plain", "maps", {"layer": "classifier.2"}, ["fast"], "classifier.2 of network small is no feature map"),
        ("plain", "maps", {"frozen": "classifier.2"}, ["fast"], "maps.frozen: classifier.2 does not come before"),
        (
            "steps",
            "roi_detect",
            {"scales_px": [96, 160]},
            ["maps"],
            "roi_detect.scales_px: a detector of kind faster stores",
        ),
        ("plain", "roi_detect", {"svd": [0, 5]}, ["roi_detect"], "roi_detect.svd.0 = 0"),
        ("plain", "maps", {"layer": "fetures.11"}, ["fast"], "maps.layer: network small has no node 'fetures.11' (did"),
        ("once", "maps", {"frozen": "fetures.3"}, ["joint"], "maps.frozen: network small has no node 'fetures.3' (did"),
        ("plain", "fast", {"lr": 10}, ["fast"], "became nan at iteration"),
        ("steps", "rpn", {"lr": 10}, ["rpn_1"], "rcnn: rpn_1: the loss"),
        ("plain", "maps", {"layer": "features.8"}, ["roi_detect"], "maps.layer features.11 and not features.8"),
        ("steps", "maps", {"short_px": 128}, ["rpn_2"], "maps of another short_px than this step's; run `dvc repro`"),
        ("steps", "maps", {"short_px": 128}, ["propose_2"], "maps of another short_px than this step's"),
        (
            "steps",
            "rpn",
            {"scales_px": [24, 40]},
            ["propose_1"],
            "rpn_1/weights.safetensors: trained with rpn.scales_px [24.0, 48.0] and not [24.0, 40.0], which "
            "params.yaml says; run `dvc repro`, or `rcnn -d steps run rpn_1` first",
        ),
        ("steps", "rpn", {"objectness": "logistic"}, ["propose_2"], "or `rcnn -d steps run rpn_2` first"),
        ("steps", "maps", {"layer": "features.8"}, ["propose_1"], "maps.layer features.11 and not features.8"),
        (
            "once",
            "rpn",
            {"ratios": [0.5, 1], "channels": 32},
            ["propose"],
            "trained with rpn.ratios [0.5, 1.0, 2.0] and not [0.5, 1.0], rpn.channels 16 and not 32, which params.yaml "
            "says; run `dvc repro`, or `rcnn -d once run joint` first",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(
    server: StageServer, project: Path, name: str, group: str, values: dict[str, Any], nodes: list[str], said: str
) -> None:
    change(project, name, group, **values)
    answer = server.run(project, "-d", name, "run", *nodes)
    assert answer.status == 2, answer.said
    assert said in answer.said.splitlines()[-1] and "Traceback" not in answer.said


@pytest.mark.slow
def test_dvc_runs_what_a_change_reaches_and_no_more(project: Path, warm_rcnn: Path) -> None:
    """Have DVC say, by the written dvc.yaml files, which stages have a parameter, and run what lies behind them."""
    driver = DvcDriver(project, rcnn=warm_rcnn)
    files = [f"detectors/{name}/dvc.yaml" for name in DETECTORS]
    driver.dvc("commit", "-f", *(f"dvc.yaml:{one.name}" for one in HEAD), *files)

    def running(*options: str) -> list[str]:
        ended = driver.call("repro", *options)
        assert ended.status == 0, ended.said
        return re.findall(r"Running stage '(?:detectors/)?([\w/.:]+)'", ended.said.replace("/dvc.yaml:", "/"))

    assert running("--dry", *files) == []
    changes: dict[str, tuple[str, dict[str, Any], list[str]]] = {
        "steps": ("roi_detect", {"nms_iou": 0.4}, ["roi_detect", "report"]),
        "once": ("propose", {"after_nms": 20}, ["propose", "report"]),  # the training has a number of its own
        "plain": ("fast", {"lr": 0.005}, ["fast", "report"]),
        "mixed": ("roi_detect", {"nms_iou": 0.4}, ["roi_detect", "report"]),
    }
    before = {name: params_file(project, name).read_text(encoding="utf-8") for name in changes}
    for name, (group, values, _) in changes.items():
        change(project, name, group, **values)
    own = [f"{name}/{node}" for name, (_, _, nodes) in changes.items() for node in nodes]
    assert sorted(running("--dry", *files)) == sorted(own)  # the stages that these are parameters of
    for name, text in before.items():
        params_file(project, name).write_text(text, encoding="utf-8")
    after = ["roi_detect", "combine", "evaluate", "report"]
    change(project, "steps", "fast", lr=0.005)
    nodes = ["fast_1", "maps", "rpn_2", "propose_2", "fast_2", *after]
    assert running("detectors/steps/dvc.yaml") == [f"steps/{node}" for node in nodes]
    # of another detector what its RPN is made by, and nothing behind it
    change(project, "steps", "rpn", lr=0.005)
    expected = ["steps/rpn_1", "steps/propose_1", *(f"mixed/{node}" for node in after)]
    assert running("detectors/mixed/dvc.yaml") == expected


def with_classes(server: StageServer, project: Path, *names: str) -> None:
    """Have the project's dataset hold these classes, in this order."""
    params = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    params["manifest"]["classes"] = list(names)
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    done(server.run(project, "run", "manifest"))


def test_proposals_of_another_dataset_are_refused(server: StageServer, project: Path) -> None:
    with_classes(server, project, "one", "seven")
    for name, node in (("plain", "fast"), ("steps", "fast_1"), ("steps", "rpn_2")):
        answer = server.run(project, "-d", name, "run", node)
        assert answer.status == 2, answer.said
        assert "made of another dataset or of other images; run `dvc repro`" in answer.said.splitlines()[-1]
    answer = server.run(project, "-d", "plain", "run", "roi_detect")
    assert answer.status == 2 and "and the dataset has one, seven; run `dvc repro`" in answer.said.splitlines()[-1]


@pytest.mark.parametrize("names", [("seven", "one", "nine"), ("one", "seven", "eight")])
def test_weights_of_other_classes_are_refused(server: StageServer, project: Path, names: tuple[str, ...]) -> None:
    """Name as many classes, in another order or others: ``roi_detect`` and ``Detector`` refuse to call one another."""
    with_classes(server, project, *names)
    said = f"trained for classes one, seven, nine, and the dataset has {', '.join(names)}; run `dvc repro`"
    for name in DETECTORS:
        with pytest.raises(StageError, match=said):
            Detector.load(project, name=name)
    done(server.run(project, "run", "proposals"))
    answer = server.run(project, "-d", "plain", "run", "roi_detect")
    assert answer.status == 2 and said in answer.said.splitlines()[-1]


@pytest.mark.parametrize("names", [("one", "seven", "nine"), ("seven", "one", "nine")])
def test_heads_are_kept_for_the_same_classes_alone(server: StageServer, project: Path, names: tuple[str, ...]) -> None:
    """Train ``fast_2`` with ``fast.heads: kept``, on from fast_1's last layers, where they are of these classes."""
    change(project, "steps", "fast", heads="kept")
    with_classes(server, project, *names)
    said = done(server.run(project, "-d", "steps", "run", "maps", "propose_2", "fast_2"))
    before = load_regions(project / "artifacts/detectors/steps/fast_1/weights.safetensors")
    after = load_regions(project / "artifacts/detectors/steps/fast_2/weights.safetensors")
    assert before.classes == ("one", "seven", "nine") and after.classes == names
    assert before.norm is not None and after.norm is not None
    same = names == before.classes
    assert np.array_equal(before.norm.mean, after.norm.mean) == same  # it goes with the layers that are kept
    assert ("are for one, seven, nine; new ones are drawn" in said) != same


def test_an_rpn_trained_since_is_not_taken_for_new_images(server: StageServer, project: Path) -> None:
    change(project, "steps", "rpn", lr=0.002)
    done(server.run(project, "-d", "steps", "run", "rpn_2"))
    with pytest.raises(StageError, match=r"rpn_2/weights\.safetensors: not the one that .*propose_2 was made with"):
        Detector.load(project, name="steps")


def test_images_without_a_proposal_have_no_detection(server: StageServer, project: Path) -> None:
    change(project, "once", "propose", min_side_px=4000)
    said = done(server.run(project, "-d", "once", "run", *NODES["once"]))
    assert said.count("no proposals; the image is kept with zero boxes") == 7
    found = Artifact.read(project / "artifacts/detectors/once/roi_detect/manifest.json")
    store = Store(project / "artifacts")
    assert [len(store.get(found.stage, key).arrays["bbox.scores"]) for key in found.keys.values()] == [0, 0, 0]


def test_a_map_of_other_channels_carries_a_detector(server: StageServer, project: Path) -> None:
    """``small``'s last map but one, with new fully connected layers behind it."""
    change(project, "once", "network", fc=[16, 16], pyramid=[2])
    change(project, "once", "maps", layer="features.9")
    done(server.run(project, "-d", "once", "run", *NODES["once"]))
    of = load_regions(project / "artifacts/detectors/once/joint/weights.safetensors")
    assert (of.layer, of.grid, of.network.fc6_channels) == ("features.9", 2, of.channels)
    assert of.channels != cut(of.network, None).channels
    found = Artifact.read(project / "artifacts/detectors/once/roi_detect/manifest.json")
    store = Store(project / "artifacts")
    assert all(len(store.get(found.stage, key).arrays["bbox.scores"]) for key in found.keys.values())
