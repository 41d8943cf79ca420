"""``rcnn params init --profile ilsvrc2013``."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from dataset_files import jpeg
from ilsvrc_tree import LAYOUTS, Shown, Tree, write_tree

from manifests import ReadOptions, import_dataset, load_registered
from manifests.select import select
from pipeline.detectors import Layout
from pipeline.params import load_params
from stages.bbox.settings import BboxSettings
from stages.detections.settings import DetectSettings
from stages.finetune.settings import FinetuneSettings
from stages.manifest.settings import ManifestSettings
from stages.scoring.settings import EvaluateSettings
from stages.svm.settings import SvmSettings

ROOT = Path(__file__).parents[2]
Run = Callable[..., tuple[int, str, str]]


def tree() -> Tree:
    val = {f"v{i}": Shown(jpeg(seed=i), [("cat", (1, 1, 20, 20)), ("dog", (5, 5, 30, 30))]) for i in range(4)}
    train = {f"n1_{i}": Shown(jpeg(seed=9 + i), [("cat", (1, 1, 20, 20))]) for i in range(3)}
    lists = {"val1": ["v0", "v1"], "val2": ["v2", "v3"]}
    return Tree(("cat", "dog"), {"train": train, "val": val}, {"cat": dict.fromkeys(train, 1)}, lists)


def registered(project: Path, layout: str, one: Tree) -> None:
    (project / "detectors/sppnet").mkdir(parents=True)
    (project / "detectors/joint").mkdir()
    for name in ("sppnet", "joint"):
        (project / f"detectors/{name}/params.yaml").write_bytes((ROOT / f"detectors/{name}/params.yaml").read_bytes())
    import_dataset("ilsvrc", write_tree(project / "tree", layout, one), "il", ReadOptions(), project / "artifacts")


def init(run: Run, project: Path, *more: str) -> tuple[int, str, str]:
    arguments = ("--dataset", "il", "--network", "alexnet", "--weights", "IMAGENET1K_V1", "--profile", "ilsvrc2013")
    return run("-C", project, "params", "init", *arguments, "--force", *more)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_papers_values(run: Run, project: Path, layout: str) -> None:
    registered(project, layout, tree())
    joint = (project / "detectors/joint/params.yaml").read_bytes()
    code, out, err = init(run, project)
    assert code == 0, err
    assert "detectors/joint/params.yaml: left as it is: it cannot train on images that are annotated in part" in out
    assert (project / "detectors/joint/params.yaml").read_bytes() == joint
    assert "detectors/joint/params.yaml: has another" not in err  # it is told once
    assert "the paper's 50,000 iterations for ILSVRC" in out and "70,000" not in out
    assert out.count("proposals: ") == 1
    document = yaml.safe_load((project / "params.yaml").read_text())
    assert document["manifest"]["train"] == ["val1", "train"] and document["manifest"]["test"] == "val2"
    assert document["proposals"]["resize_width_px"] == 500
    for name in ("rcnn", "sppnet"):
        groups = load_params(Layout(project, name)).groups
        manifest = groups.of("manifest", ManifestSettings)
        assert (manifest.train_limit, manifest.train_limit_of) == (1000, "boxes")
        assert groups.of("finetune", FinetuneSettings).iterations == 50_000
        svm = groups.of("svm", SvmSettings)
        assert (svm.mine_images, svm.evict_below, svm.images) == (5000, -1.1, None)
        assert groups.of("bbox", BboxSettings).images == "val1"
        detect = groups.of("detect", DetectSettings)
        assert (detect.order, detect.score_floor, detect.rank_factor) == ("suppress_then_cut", -1.5, 15_000)
        assert groups.of("evaluate", EvaluateSettings).ilsvrc
    dataset = load_registered("il", project / "artifacts").dataset
    assert len(select(dataset, manifest.train, manifest.test, None).split("train")) == 5


def test_small_trains_shorter(run: Run, project: Path) -> None:
    registered(project, "2014", tree())
    assert init(run, project, "--small")[0] == 0
    assert load_params(Layout(project)).groups.of("finetune", FinetuneSettings).iterations == 100


def test_without_train_val1_is_the_one_split(run: Run, project: Path) -> None:
    one = tree()
    registered(project, "2013", replace(one, pictures={"val": one.pictures["val"]}, flags={}))
    assert init(run, project)[0] == 0
    groups = load_params(Layout(project)).groups
    assert groups.of("manifest", ManifestSettings).train == "val1"
    assert groups.of("bbox", BboxSettings).images is None


def test_what_cannot_be(run: Run, project: Path) -> None:
    registered(project, "2014", replace(tree(), lists={}))
    code, out, err = init(run, project)
    assert (code, out) == (2, "")
    assert "has no split val1 and val2" in err and "`rcnn dataset split il --halves val1 val2 --of val`" in err
    code, _, err = init(run, project, "--test", "val")
    assert code == 2 and "--test val: --profile ilsvrc2013 has its own splits" in err
    assert run("-C", project, "dataset", "split", "il", "--halves", "val1", "val2", "--of", "val")[0] == 0
    assert init(run, project)[0] == 0
