"""Our joint training beside torchvision's on a made-up project: both start alike, see the same, and are kept."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from dataset_files import jpeg, put, voc_object, voc_xml
from safetensors.numpy import load_file
from torch import Tensor, nn

import stages.faster.training
from benchmarks import peer_faster
from benchmarks.peer_faster import Comparison, main, opened, table
from benchmarks.torchvision_faster import Peer
from cache.errors import ParamsError
from manifests import ReadOptions, import_dataset
from pipeline.cli import cli
from stages.faster.images import TrainingImages
from stages.faster.joint_training import JointLoss, joint_batches, start
from stages.faster.network import Shared, load_regions
from stages.faster.training import inputs_of, training_run
from stages.networks.network import build
from stages.networks.weights import save_weights
from stages.rpn.propose import ProposalRule
from stages.training.loop import train

SEED, ITERATIONS, WIDTH, HEIGHT = 1, 3, 96, 64
TRAIN, TEST = [f"{i}" for i in range(5)], [f"{i}" for i in range(5, 8)]
OWN: dict[str, Any] = {
    "kind": "joint",
    "network": {"name": "small", "weights": "small.safetensors"},
    "maps": {"short_px": 64, "long_px": 100},
    "rpn": {"scales_px": [16, 32], "channels": 16, "border_px": None},
    "fast": {"rois_per_image": 16},
    "joint": {"iterations": 9, "step": 2, "iter_size": 2, "checkpoint_every": 1},
    "propose": {"min_side_px": 4},
    "roi_detect": {"score_floor": 0.0, "max_per_image": None},
}


def made(project: Path) -> Path:
    """Write a project of eight noisy images with two objects each, and parameters of a detector ``joint``."""
    files: dict[str, bytes | str] = {}
    for i in range(8):
        cat, dog = (5 + 3 * i, 8, 35 + 3 * i, 40), (50, 20 + 2 * i, 80, 45 + 2 * i)
        files[f"JPEGImages/{i}.jpg"] = jpeg(WIDTH, HEIGHT, seed=i)
        files[f"Annotations/{i}.xml"] = voc_xml(voc_object("cat", cat) + voc_object("dog", dog), WIDTH, HEIGHT)
    files["ImageSets/Main/train.txt"], files["ImageSets/Main/test.txt"] = "\n".join(TRAIN), "\n".join(TEST)
    put(project / "data", files)
    import_dataset("voc", project / "data", "made", ReadOptions(), project / "artifacts")
    shared = {"dataset": "made", "seed": 7, "execution": {"device": "cpu", "workers": 2}}
    written(project / "params.yaml", shared)
    written(project / "detectors/joint/params.yaml", OWN)
    save_weights(project / "small.safetensors", build("small", 3, generator=torch.Generator().manual_seed(0)))
    return project


def written(path: Path, document: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(document), encoding="utf-8")


@dataclass
class Begun:
    """What one of the trainings was called with: tensors before the first step, and the batches of all."""

    tensors: dict[str, Tensor]
    multipliers: dict[str, tuple[float, float]]
    rates: list[float]
    batches: list[Any]
    names: list[str]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Compute in one thread: two that wait for each other take many times as long where others use the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Begun]:
    """What either side's trainings begin with, in order, from now on."""
    return watched(monkeypatch)


def watched(patch: pytest.MonkeyPatch) -> list[Begun]:
    found: list[Begun] = []

    def training(model: nn.Module, solver: Any, **given: Any) -> Any:
        numbers = range(ITERATIONS * given["run"].iter_size)
        found.append(
            Begun(
                {name: tensor.clone() for name, tensor in model.state_dict().items()},
                {name: (by.rate, by.decay) for name, by in solver.multipliers.items()},
                [given["schedule"].rate(i) for i in range(given["run"].iterations)],
                [given["draw"](i) for i in numbers],
                [given["batch_name"](i) for i in numbers],
            )
        )
        return train(model, solver, **given)

    patch.setattr(stages.faster.training, "train", training)
    patch.setattr(peer_faster, "train", training)
    return found


def called(project: Path, *arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["peer_faster", str(project), *arguments])
        main()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[Begun]]]:
    """A project in which one seed has run, and what its trainings began with. Not to be changed."""
    project = made(tmp_path_factory.mktemp("peer") / "project")
    with pytest.MonkeyPatch.context() as patch:
        seen = watched(patch)
        called(project, "--seeds", str(SEED), "--iterations", str(ITERATIONS))
    yield project, seen


@pytest.fixture
def project(finished: tuple[Path, list[Begun]], tmp_path: Path) -> Path:
    shutil.copytree(finished[0], tmp_path / "project")
    return tmp_path / "project"


def kept(project: Path) -> Any:
    return json.loads((project / "reports/peer_faster.json").read_text(encoding="utf-8"))


def ours_name(name: str) -> str:
    """Give a tensor of torchvision's detector the name that it has in ours."""
    for theirs, own in (
        ("model.backbone.graph.", "trunk."),
        ("model.rpn.head.own.", "rpn."),
        ("model.roi_heads.box_head.", "fast."),
        ("model.roi_heads.box_predictor.", "fast."),
    ):
        if name.startswith(theirs):
            return own + name.removeprefix(theirs)
    raise AssertionError(name)


def test_both_start_from_the_same_tensors_with_the_same_solver(finished: tuple[Path, list[Begun]]) -> None:
    ours, theirs = finished[1]
    assert {ours_name(name) for name in theirs.tensors} == set(ours.tensors)
    for name, tensor in theirs.tensors.items():
        own = ours.tensors[ours_name(name)]
        if "bbox_pred" in name:
            assert not tensor[:4].any()
        assert torch.equal(tensor[4:] if "bbox_pred" in name else tensor, own), name
    assert {ours_name(name): by for name, by in theirs.multipliers.items()} == ours.multipliers
    assert ours.rates == theirs.rates == [0.001, 0.001, 0.0001]


def test_both_see_the_same_images_and_flips(finished: tuple[Path, list[Begun]]) -> None:
    ours, theirs = finished[1]
    assert ours.names == theirs.names
    mirrored = {"mirrored" in name for name in ours.names}
    assert mirrored == {True, False}, "change SEED, so that an image is mirrored and another is not"
    for own, other in zip(ours.batches, theirs.batches, strict=True):
        assert np.array_equal(own.rpn.inputs, other.inputs)
        assert np.array_equal(own.size.scaled(own.objects.boxes), other.boxes)
        assert np.array_equal(own.objects.labels, other.labels)


def test_ours_is_what_the_pipeline_trains_and_scores(finished: tuple[Path, list[Begun]], tmp_path: Path) -> None:
    project = made(tmp_path / "project")
    written(project / "params.yaml", yaml.safe_load((project / "params.yaml").read_text()) | {"seed": SEED})
    written(project / "detectors/joint/params.yaml", OWN | {"joint": OWN["joint"] | {"iterations": ITERATIONS}})
    nodes = ("manifest", "pretrain", "joint", "propose", "roi_detect", "combine", "evaluate")
    cli(["-C", str(project), "-d", "joint", "run", *nodes], standalone_mode=False)
    theirs = load_file(finished[0] / f"artifacts/peer_faster/joint-{SEED}/detectors/joint/joint/weights.safetensors")
    pipelines = load_file(project / "artifacts/detectors/joint/joint/weights.safetensors")
    assert theirs.keys() == pipelines.keys()
    assert all(np.array_equal(theirs[name], pipelines[name]) for name in pipelines)
    scores = json.loads((project / "reports/joint/scores.json").read_text())
    ours = kept(finished[0])["seeds"][str(SEED)]["ours"]
    assert [ours["voc2007"], ours["voc2010"], ours["coco"], ours["recall_50"], ours["recall_70"]] == [
        scores["voc2007"]["mAP"],
        scores["voc2010"]["mAP"],
        scores["coco"]["AP"],
        scores["proposals"]["recall_50"],
        scores["proposals"]["recall_70"],
    ]
    assert ours["recall_50"] > 0 and ours["voc2010"] > 0


def test_figures_are_kept(finished: tuple[Path, list[Begun]]) -> None:
    sides = kept(finished[0])["seeds"][str(SEED)]
    assert list(sides) == ["ours", "torchvision"]
    for figures in sides.values():
        assert set(figures) == {name for _, name, _ in peer_faster.ROWS}
        assert figures["step_s"] > 0 and figures["peak_mib"] > 100
        assert all(0 <= figures[name] <= 1 for name in ("voc2007", "voc2010", "coco", "recall_50", "recall_70"))
    assert sides["torchvision"]["recall_50"] > 0 and sides["torchvision"]["voc2010"] > 0
    assert not list((finished[0] / f"artifacts/peer_faster/joint-{SEED}/torchvision").iterdir())  # no checkpoint


def test_a_run_goes_on_where_it_stood(project: Path, seen: list[Begun], capsys: pytest.CaptureFixture[str]) -> None:
    document = kept(project)
    document["seeds"][str(SEED)]["ours"]["voc2010"] = 0.123
    before = document["seeds"][str(SEED)].pop("torchvision")
    (project / "reports/peer_faster.json").write_text(json.dumps(document))
    called(project, "--seeds", str(SEED), "--iterations", str(ITERATIONS))
    assert len(seen) == 1 and all(name.startswith("model.") for name in seen[0].tensors)  # torchvision's alone
    sides = kept(project)["seeds"][str(SEED)]
    assert sides["ours"]["voc2010"] == 0.123
    costs = ("step_s", "peak_mib")
    assert {k: v for k, v in sides["torchvision"].items() if k not in costs} == {
        k: v for k, v in before.items() if k not in costs
    }
    assert re.search(r"\| VOC 2010 mAP, % \| 12\.3 \| ", capsys.readouterr().out)
    called(project, "--seeds", str(SEED), "--iterations", str(ITERATIONS))
    assert len(seen) == 1
    called(project, "--show")
    assert len(seen) == 1
    assert f"Seeds: {SEED}." in capsys.readouterr().out


def test_a_killed_training_of_torchvisions_goes_on(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = kept(project)
    before = document["seeds"][str(SEED)].pop("torchvision")
    (project / "reports/peer_faster.json").write_text(json.dumps(document))
    steps: list[int] = []
    losses = Peer.losses

    def counted(self: Any, batch: Any) -> dict[str, Tensor]:
        steps.append(len(steps))
        if len(steps) == 4:  # two images a step: in the second one
            raise KeyboardInterrupt
        return losses(self, batch)

    monkeypatch.setattr(Peer, "losses", counted)
    with pytest.raises(KeyboardInterrupt):
        called(project, "--seeds", str(SEED), "--iterations", str(ITERATIONS))
    called(project, "--seeds", str(SEED), "--iterations", str(ITERATIONS))
    assert len(steps) == 4 + 4  # the two steps that were left
    after = kept(project)["seeds"][str(SEED)]["torchvision"]
    assert {k: after[k] for k in ("voc2010", "coco", "recall_70")} == {
        k: before[k] for k in ("voc2010", "coco", "recall_70")
    }


def test_results_of_other_settings_are_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        called(project, "--seeds", str(SEED), "--iterations", "2")
    out = project / "reports/peer_faster.json"
    assert capsys.readouterr().err.splitlines() == [
        f"{out}: results of another joint; name another --out, or remove the file"
    ]
    out.write_text("[]")
    with pytest.raises(SystemExit, match="2"):
        called(project, "--show")
    assert "holds no results of this program" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("group", "values", "said"),
    [
        ("rpn", {"loss": "paper"}, "rpn.loss: paper"),
        ("rpn", {"difficult": True}, "rpn.difficult and fast.difficult"),
        ("fast", {"bg_iou_low": 0.1}, "fast.bg_iou_low: 0.1"),
        ("propose", {"nms_iou": None}, "propose: nms_iou null"),
        ("roi_detect", {"rank_factor": 40}, "roi_detect: torchvision has neither"),
        ("roi_detect", {"scales_px": [64, 96]}, "roi_detect.scales_px: [64, 96]; torchvision"),
        ("joint", {"precision": "bfloat16"}, "joint.precision"),
        ("kind", "fast", "kind: fast; only a detector of kind joint"),
    ],
)
def test_what_torchvision_has_no_like_of_is_refused(project: Path, group: str, values: Any, said: str) -> None:
    own = {"kind": "fast"} if group == "kind" else OWN | {group: OWN[group] | values}
    written(project / "detectors/joint/params.yaml", own)
    with pytest.raises(ParamsError) as refused:
        opened(project, "joint", None, roi_pooling=False)
    assert str(refused.value).startswith(f"{project / 'detectors/joint/params.yaml'}: {said}")


@pytest.fixture
def all_drawn(project: Path) -> Comparison:
    """Both draw all anchors and RoIs, and pool alike."""
    everything = {
        "rpn": {"batch": 65_536, "positive_fraction": 1.0},
        "fast": {"rois_per_image": 4096, "fg_fraction": 1},
    }
    written(
        project / "detectors/joint/params.yaml",
        OWN | {group: OWN[group] | values for group, values in everything.items()},
    )
    return opened(project, "joint", ITERATIONS, roi_pooling=True)


def test_where_all_is_drawn_the_first_losses_are_equal(all_drawn: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the box loss of the RoIs, whose bend differs: computed by hand of what torchvision's was given."""
    theirs: list[dict[str, Tensor]] = []
    losses = Peer.losses

    def without_dropout(model: nn.Module) -> None:
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0

    def first(self: Any, batch: Any) -> dict[str, Tensor]:
        without_dropout(self)
        theirs.append(losses(self, batch))
        raise KeyboardInterrupt

    monkeypatch.setattr(Peer, "losses", first)
    with pytest.raises(KeyboardInterrupt):
        peer_faster.train_theirs(all_drawn, SEED)

    context, limits = all_drawn.of_seed(SEED, "joint"), all_drawn.limits
    network = load_regions(context.input("weights"))
    images = TrainingImages(context.dataset().split("train"), short_px=64, long_px=100, difficult=False, mirror=True)
    run = training_run(limits.joint, "joint", "joint", seed=SEED, workers=1, iter_size=2)
    begun = start(network, images, limits.anchors, limits.rois, 2, run)
    given = inputs_of(context.image, network, images, 1)
    draw: Callable[[int], Any] = joint_batches(begun.targets, images, given, begun.entry_of, run)
    keep = ProposalRule(12_000, 0.7, 2000, limits.propose.min_side_px)
    model = Shared(network, trunk=True, rpn=True, fast=True).train()
    without_dropout(model)
    ours = JointLoss(begun.rule, keep, limits.rois, begun.norm, begun.pooling, "float32")(model, draw(0))
    for name in ("rpn_cls", "rpn_box", "cls"):
        assert ours[name].item() == pytest.approx(theirs[0][name].item(), rel=1e-4), name
    assert ours["box"].item() < theirs[0]["box"].item() <= 9 * ours["box"].item()
    alike = limits.rois.model_copy(update={"sigma": 3})
    without_dropout(model)
    box = JointLoss(begun.rule, keep, alike, begun.norm, begun.pooling, "float32")(model, draw(0))["box"]
    assert box.item() == pytest.approx(theirs[0]["box"].item(), rel=1e-4)


def test_the_table_has_means_and_deviations_of_paired_differences() -> None:
    def sides(ours: float, theirs: float, step: float | None) -> dict[str, dict[str, float | None]]:
        names = [name for _, name, _ in peer_faster.ROWS]
        mine: dict[str, float | None] = dict.fromkeys(names, ours)
        other: dict[str, float | None] = dict.fromkeys(names, theirs)
        return {"ours": mine | {"step_s": step}, "torchvision": other | {"step_s": 2.0}}

    # differences .10 and .20: mean .15, deviation .0707
    results = {"1": sides(0.5, 0.4, 1.5), "2": sides(0.7, 0.5, None), "3": {"ours": sides(0.9, 0, 1)["ours"]}}
    lines = table(results).splitlines()
    assert lines[0] == "|  | ours | torchvision | difference |"
    assert lines[3] == "| VOC 2010 mAP, % | 60.0 ± 14.1 | 45.0 ± 7.1 | +15.0 ± 7.1 |"
    assert lines[7] == "| s a training step | 1.500 | 2.000 ± 0.000 | -0.500 |"
    assert lines[-1] == "Seeds: 1, 2."
    assert table({}).splitlines()[-1] == "Seeds: none."


def test_a_folder_that_is_no_project_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        called(tmp_path)
    assert len(capsys.readouterr().err.splitlines()) == 1
