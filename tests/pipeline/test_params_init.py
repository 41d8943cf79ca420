"""``rcnn params init``: what it writes fits together, what cannot work is refused, and nothing is lost."""

import json
import math
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from small_files import voc_folder, weights_header

from cache.errors import ParamsError, StageError
from manifests import ReadOptions, import_dataset, load_registered
from pipeline import cli
from pipeline.detectors import Layout
from pipeline.params import Params, load_params
from pipeline.params_init.drafts import Request, drafts, write
from pipeline.params_init.text import differences, flow, with_values
from stages.bbox.settings import BboxSettings
from stages.dense.scales import check_scales
from stages.dense.windows import windows_of
from stages.fast.settings import FastSettings, JointRoiSettings, RoiDetectSettings
from stages.faster.images import TrainingImages
from stages.faster.network import cut
from stages.faster.rpn_training import AnchorTargets, rpn_shape
from stages.faster.settings import JointSettings, MapsSettings
from stages.features.settings import FeaturesSettings
from stages.finetune.settings import FinetuneSettings
from stages.manifest.settings import ManifestSettings
from stages.networks.architectures import ARCHITECTURES
from stages.networks.initial import planned_network
from stages.networks.network import build
from stages.networks.settings import NetworkSettings
from stages.networks.weights import save_weights
from stages.overfeat.settings import DenseMapsSettings, FinetuneDenseSettings, RegressSettings
from stages.proposals.settings import ProposalsSettings
from stages.rpn.settings import AnchorSettings, ProposeSettings, RpnSettings
from stages.svm.settings import SvmSettings

ROOT = Path(__file__).parents[2]
TORCHVISION = {"alexnet", "vgg16", "squeezenet1_0", "resnet50"}
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["rcnn", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        return (code, *capsys.readouterr())

    return call


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with the shipped parameters and a registered dataset of six images."""
    project = tmp_path / "project"
    (project / "detectors/sppnet").mkdir(parents=True)
    for file in ("params.yaml", "detectors/sppnet/params.yaml"):
        (project / file).write_bytes((ROOT / file).read_bytes())
    register(project, voc_folder(tmp_path / "pets", {"train": 4, "test": 2}), "pets")
    return project


def register(project: Path, folder: Path, name: str) -> None:
    import_dataset("voc", folder, name, ReadOptions(), project / "artifacts")


def init(project: Path, network: str, weights: str, preset: str = "medium", **more: Any) -> list[str]:
    """Write the files, and return the reasons given."""
    request = Request(more.pop("dataset", "pets"), network, weights, preset, **more)  # type: ignore[arg-type]
    made = drafts(project, request, "rcnn params init")
    for draft in made:
        write(draft, keep_former=False)
    return [line for draft in made for line in draft.reasons]


@pytest.mark.parametrize("preset", ["small", "medium", "paper"])
@pytest.mark.parametrize("network", ARCHITECTURES)
def test_every_network_and_preset_gives_files_that_fit(project: Path, network: str, preset: str) -> None:
    if network in TORCHVISION:
        init(project, network, "IMAGENET1K_V1", preset)
    else:
        weights_header(project / "w.safetensors", network, {"input": "RGB, minus 0.485, by 0.229"})
        init(project, network, "w.safetensors", preset)
    for name in ("rcnn", "sppnet"):
        groups = load_params(Layout(project, name)).groups
        settings, features = groups.of("network", NetworkSettings), groups.of("features", FeaturesSettings)
        planned = planned_network(settings, project)
        layers = {groups.of("svm", SvmSettings).layer, groups.of("bbox", BboxSettings).layer}
        assert layers <= set(features.layers)
        for layer in features.layers:
            planned.node(layer)
        assert features.method == ("spp" if name == "sppnet" else "warp")
    root = load_params(Layout(project)).groups
    side = planned_network(root.of("network", NetworkSettings), project).input.side_px
    assert root.of("features", FeaturesSettings).context_px == round(16 * side / 227)
    tuning = root.of("finetune", FinetuneSettings)
    # SqueezeNet's last map is large: at the paper's rate the loss is no number after some steps.
    assert tuning.lr == (0.0001 if network == "squeezenet1_0" else 0.001)
    assert (tuning.new_layer_lr, tuning.mirror) == (10, True)
    most = 1000 if preset == "small" else None
    assert root.of("proposals", ProposalsSettings).max_proposals == most
    iterations = {"small": 100, "medium": 300, "paper": 70_000}
    as_it_is = network == "squeezenet1_0" and preset != "paper"  # without fc7 better as it came
    assert tuning.iterations == (0 if as_it_is else iterations[preset])


def test_overfeats_authors_files_bring_their_input(project: Path) -> None:
    with (project.parent / "blob").open("wb") as file:
        file.truncate(4 * 144_656_488)  # a hole of the file system: the length is all that is read
    (project / "net_weight_1").symlink_to(project.parent / "blob")
    said = init(project, "overfeat_accurate", "net_weight_1")
    assert "network: overfeat_accurate, weights net_weight_1; input RGB, 0 to 255, 221 px (its authors' own)" in said
    settings = load_params(Layout(project)).groups.of("network", NetworkSettings)
    assert (settings.weights, settings.input) == ("net_weight_1", None)
    with pytest.raises(ParamsError, match=r"--input caffe: .*net_weight_1 has its authors' own; leave the option out"):
        init(project, "overfeat_accurate", "net_weight_1", convention="caffe")
    with pytest.raises(StageError, match=r"it fits overfeat_accurate: set network\.name to that"):
        init(project, "overfeat_fast", "net_weight_1")


def test_classes_are_those_asked_for_or_those_with_objects_enough(run: Run, project: Path) -> None:
    folder = voc_folder(project.parent / "pair", {"train": 2, "test": 2})  # of train image 0 is a cat's, 1 a dog's
    text = (folder / "Annotations/train1.xml").read_text()
    (folder / "Annotations/train1.xml").write_text(text.replace("dog", "cat"))
    register(project, folder, "pair")
    options = ("--dataset", "pair", "--network", "alexnet", "--weights", "IMAGENET1K_V1", "--force")
    code, _, said = run("-C", project, "params", "init", *options)
    assert code == 2
    assert "class 'dog' has no object in split 'train' (1 in test); leave it out by manifest.classes" in said
    code, out, _ = run("-C", project, "params", "init", *options, "--min-objects", 1)
    assert code == 0
    assert "classes: 1 left out, whose objects are background; with their objects in train: dog (0)" in out
    head, chosen = (project / "params.yaml").read_text().splitlines()[0], load_params(Layout(project)).groups
    assert chosen.of("manifest", ManifestSettings).classes == ("cat",)
    assert head.endswith("--weights IMAGENET1K_V1 --min-objects 1`:")
    run("-C", project, "params", "init", *options[2:], "--dataset", "pets", "--class", "dog", "--class", "cat")
    assert load_params(Layout(project)).groups.of("manifest", ManifestSettings).classes == ("dog", "cat")
    assert "--class dog --class cat" in (project / "params.yaml").read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"classes": ("kat",)}, "--class kat: dataset pets has no class 'kat' (did you mean 'cat'?)"),
        ({"classes": ("cat", "cat")}, "--class cat: is given twice"),
        ({"min_objects": 3}, "--min-objects 3: no class has so many in split train; most has 'cat': 2"),
        (
            {"classes": ("dog",), "min_objects": 9},
            "--min-objects 9: no class of those asked for has so many in split train",
        ),
    ],
)
def test_classes_that_cannot_be_are_one_line(project: Path, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError) as error:
        init(project, "alexnet", "IMAGENET1K_V1", **asked)
    assert str(error.value).startswith(message)


def test_a_split_that_nobody_has_annotated_is_scored_on_only_where_there_is_no_other(project: Path) -> None:
    folder = voc_folder(project.parent / "bare", {"train": 4, "val": 2, "test": 2})
    for xml in (folder / "ImageSets/Main/test.txt").read_text().split():
        (folder / f"Annotations/{xml}.xml").unlink()
    options = ReadOptions(unannotated=("test",))
    import_dataset("voc", folder, "pets", options, project / "artifacts")
    assert not [line for line in init(project, "alexnet", "IMAGENET1K_V1") if line.startswith("scores: ")]
    assert load_params(Layout(project)).groups.of("manifest", ManifestSettings).test == "val"
    (folder / "ImageSets/Main/val.txt").unlink()
    import_dataset("voc", folder, "pets", options, project / "artifacts")
    said = init(project, "alexnet", "IMAGENET1K_V1")
    assert load_params(Layout(project)).groups.of("manifest", ManifestSettings).test == "test"
    what = "scores: none, since nobody has annotated test; reports/results will have what was found there"
    assert what in said


def test_values_that_are_the_papers_are_the_defaults(project: Path) -> None:
    weights_header(project / "w.safetensors", "caffenet", {"input": "BGR, minus (104, 117, 123)"})
    init(project, "caffenet", "w.safetensors", "paper")
    groups = load_params(Layout(project)).groups
    for group, model in (("svm", SvmSettings), ("bbox", BboxSettings), ("features", FeaturesSettings)):
        assert groups.of(group, model) == model()
    tuning = groups.of("finetune", FinetuneSettings).model_dump()
    assert tuning == FinetuneSettings().model_dump() | {"image_cache_mb": tuning["image_cache_mb"]}


@pytest.mark.parametrize("preset", ["small", "medium", "paper"])
def test_spp_net_is_fine_tuned_and_detects_as_its_authors_do(project: Path, preset: str) -> None:
    """Where R-CNN's authors and SPP-net's differ; the shipped file says it too."""
    weights_header(project / "w.safetensors", "zf5", {"input": "BGR, minus (104, 117, 123)"})
    init(project, "zf5", "w.safetensors", preset)
    shipped = yaml.safe_load((ROOT / "detectors/sppnet/params.yaml").read_text())
    expected = {
        "rcnn": {"sampling": "replacement", "new_layer_bias": 0, "decay_biases": False, "new_layer_lr": 10}
        | {"bg_iou_low": 0, "order": "cut_then_suppress", "score_floor": None, "rank_factor": 40, "max_per_class": 100},
        "sppnet": {"sampling": "blocks", "new_layer_bias": 1, "decay_biases": True, "new_layer_lr": 1}
        | {"bg_iou_low": 0.1, "order": "suppress_then_cut", "score_floor": -1.5, "rank_factor": 100}
        | {"max_per_class": 100},
    }
    for name, values in expected.items():
        document = yaml.safe_load(Layout(project, name).params_file.read_text())
        found = document["finetune"] | document["detect"]
        assert {key: found[key] for key in values} == values
    both = shipped["finetune"] | shipped["detect"]
    assert {key: both[key] for key in expected["sppnet"]} == expected["sppnet"]


@pytest.mark.parametrize("network", ["vgg16", "alexnet"])
def test_the_mini_batch_of_o_net_is_the_authors(project: Path, network: str) -> None:
    """24 windows, a quarter of them positive, for O-Net (vgg16); 128 for any other network."""
    windows = {"vgg16": (6, 18), "alexnet": (32, 96)}[network]
    lines = init(project, network, "IMAGENET1K_V1", "paper")
    tuning = load_params(Layout(project)).groups.of("finetune", FinetuneSettings)
    assert (tuning.fg_per_batch, tuning.bg_per_batch) == windows
    comment = "# the authors' code's, for O-Net; the paper: 96"
    assert (comment in (project / "params.yaml").read_text()) == (network == "vgg16")
    said = "24 windows each, 6 of them positive, as in the authors' code for O-Net"
    assert any(said in line for line in lines) == (network == "vgg16")
    for preset, expected in (("medium", windows), ("small", (8, 24))):
        init(project, network, "IMAGENET1K_V1", preset)
        tuning = load_params(Layout(project)).groups.of("finetune", FinetuneSettings)
        assert (tuning.fg_per_batch, tuning.bg_per_batch) == expected


def test_comments_stay_and_say_whose_a_value_is(project: Path) -> None:
    init(project, "alexnet", "IMAGENET1K_V1", "small")
    text = (project / "params.yaml").read_text()
    assert text.startswith("# Written by `rcnn params init`:\n# small: ")
    assert "  iterations: 100              # ours, by the images; the paper: 70000\n" in text
    assert "  crop: warp                   # warp | square | square_no_context (appendix A)\n" in text
    assert "the demo" not in text and "digit" not in text.partition("pretrain:")[0]
    assert "  max_segments: null           # ours: all above the threshold; O2P: 3\n" in text
    assert "  layer: fc6\n  max_regions: 300             # ours; the paper: CPMC's regions, about 150\n" in text
    own = (project / "detectors/sppnet/params.yaml").read_text()
    assert "the demo's;" not in own and "  ridge_lambda: 4000           # the authors' code's\n" in own


@pytest.mark.parametrize(
    ("splits", "asked", "expected"),
    [
        ({"train": 4, "test": 2}, {}, ("train", "test")),
        ({"train": 4, "val": 2}, {}, ("train", "val")),
        ({"train": 4, "val": 2, "test": 2}, {}, ("train", "test")),
        ({"trainval": 4, "test": 2}, {}, ("trainval", "test")),
        ({"one": 4, "two": 2}, {"train": "one", "test": "two"}, ("one", "two")),
        ({"train": 4, "val": 2, "test": 2}, {"test": "val"}, ("train", "val")),
    ],
)
def test_splits(
    project: Path, tmp_path: Path, splits: dict[str, int], asked: dict[str, str], expected: tuple[str, str]
) -> None:
    register(project, voc_folder(tmp_path / "others", splits), "pets")
    init(project, "alexnet", "IMAGENET1K_V1", **asked)
    settings = load_params(Layout(project)).groups.of("manifest", ManifestSettings)
    assert (settings.train, settings.test) == expected


@pytest.mark.parametrize(("width", "expected"), [(640, 500), (500, None), (320, None), (260, 500)])
def test_the_width_of_the_search_follows_the_images(
    project: Path, tmp_path: Path, width: int, expected: int | None
) -> None:
    register(project, voc_folder(tmp_path / "others", {"train": 2, "test": 2}, width=width), "pets")
    reasons = init(project, "alexnet", "IMAGENET1K_V1")
    assert load_params(Layout(project)).groups.of("proposals", ProposalsSettings).resize_width_px == expected
    assert any(line.startswith("proposals: searched at") and str(width) in line for line in reasons)
    init(project, "alexnet", "IMAGENET1K_V1", "paper")
    own = load_params(Layout(project)).groups.of("proposals", ProposalsSettings).resize_width_px
    assert own == (500 if width > 500 else None)


def test_a_few_pictures_that_are_much_larger_set_the_width(project: Path, tmp_path: Path) -> None:
    folder = voc_folder(tmp_path / "others", {"train": 4, "test": 2}, width=320)
    Image.new("RGB", (3000, 2000)).save(folder / "JPEGImages/train0.jpg")
    written = folder / "Annotations/train0.xml"
    written.write_text(re.sub("<size>.*</size>", "", written.read_text()))
    register(project, folder, "pets")
    reasons = init(project, "alexnet", "IMAGENET1K_V1")
    assert load_params(Layout(project)).groups.of("proposals", ProposalsSettings).resize_width_px == 500
    assert any("1 of the 6 images are much larger" in line for line in reasons)


def test_crowded_classes_let_more_regions_through(project: Path, tmp_path: Path) -> None:
    register(project, voc_folder(tmp_path / "crowd", {"train": 2, "test": 2}, objects=24), "pets")
    for preset, limit in (("medium", 480), ("paper", 100)):
        reasons = init(project, "alexnet", "IMAGENET1K_V1", preset)
        document = yaml.safe_load((project / "params.yaml").read_text())
        assert document["detect"]["max_per_class"] == limit
        assert any("12 objects in an image" in line for line in reasons)


@pytest.mark.parametrize(
    ("meta", "asked", "expected"),
    [
        ({"input": "BGR, 0-255, minus (104,117,123)"}, {}, {"color_order": "bgr", "side_px": 227}),
        ({"note": "rgb, mean 0.485 0.456 0.406, std 0.229 0.224 0.225"}, {}, None),
        ({}, {"convention": "caffe"}, {"color_order": "bgr", "side_px": 227}),
        ({}, {"convention": "torchvision"}, None),
        ({"input": "RGB 0.485 0.229"}, {"convention": "caffe"}, {"color_order": "bgr", "side_px": 227}),
    ],
)
def test_the_input_convention_is_the_files_or_the_one_named(
    project: Path, meta: dict[str, str], asked: dict[str, str], expected: dict[str, object] | None
) -> None:
    weights_header(project / "w.safetensors", "squeezenet1_0", meta)
    init(project, "squeezenet1_0", "w.safetensors", **asked)
    written = yaml.safe_load((project / "params.yaml").read_text())
    assert written["region_features"]["layer"] == "pool5"  # there is no fc6
    found = written["network"]["input"]
    assert found == expected or (expected is not None and expected.items() <= found.items())


def test_a_file_of_this_package_says_all_about_itself(project: Path) -> None:
    network = build("small", 4, pyramid=(1, 2), generator=torch.Generator().manual_seed(0))
    save_weights(project / "own.safetensors", network)
    init(project, "small", "own.safetensors")
    for name in ("rcnn", "sppnet"):
        groups = load_params(Layout(project, name)).groups
        assert groups.of("network", NetworkSettings).pyramid == (1, 2)
        assert groups.of("svm", SvmSettings).layer == "fc7"
    assert groups.of("features", FeaturesSettings).spp.levels == (1, 2)


def weights(project: Path, name: str, content: bytes | str) -> str:
    """Write ``name``: bytes as they are, or the header of the network named."""
    if isinstance(content, bytes):
        (project / name).write_bytes(content)
    else:
        weights_header(project / name, content, {"input": "BGR 104 117 123"})
    return name


ALEXNET = ("--network", "alexnet", "--weights", "IMAGENET1K_V1")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--dataset", "pats", *ALEXNET), "dataset 'pats' is not registered; import it, or choose"),
        (("--dataset", "pets", "--network", "alexnet", "--weights", "no.safetensors"), "no such weights file"),
        (("--dataset", "pets", "--network", "alexnet", "--weights", "a.pth"), "is a pickle, and reading one can run"),
        (
            ("--dataset", "pets", "--network", "alexnet", "--weights", "pickle.safetensors"),
            "not a readable safetensors",
        ),
        (("--dataset", "pets", "--network", "alexnet", "--weights", "sq.safetensors"), "check network.name"),
        (
            ("--dataset", "pets", "--network", "vgg16", "--weights", "alex.safetensors"),
            "weights do not fit network vgg16",
        ),
        (("--dataset", "pets", "--network", "squeezenet1_0", "--weights", "mute.safetensors"), "--input torchvision"),
        (("--dataset", "pets", "--network", "alexnet", "--weights", "IMAGENET1K_V9"), "there are IMAGENET1K_V1"),
        (("--dataset", "pets", "--network", "caffenet", "--weights", "IMAGENET1K_V1"), "torchvision has no network"),
        (("--dataset", "pets", "--network", "small", "--weights", "pretrain"), "brings no classification set"),
        (
            ("--dataset", "pets", "--network", "squeezenet1_0", "--weights", "IMAGENET1K_V1", "--layer", "fc7"),
            "--layer fc7: network squeezenet1_0 has no layer 'fc7'",
        ),
        (("--dataset", "pets", *ALEXNET, "--train", "trian"), "--train trian: dataset pets has no such split (did you"),
        (("--dataset", "pets", *ALEXNET, "--train", "test"), "share 2 images"),
        (("--dataset", "pets", *ALEXNET, "--input", "caffe"), "torchvision says the input convention"),
        (("--dataset", "kinds", *ALEXNET), "has one class per picture and no boxes"),
        (("--dataset", "odd", *ALEXNET), "its splits are one, two"),
    ],
)
def test_what_cannot_work_is_one_line(
    run: Run, project: Path, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    register(project, voc_folder(tmp_path / "odd", {"one": 2, "two": 2}), "odd")
    _classes(project, tmp_path / "kinds")
    weights(project, "pickle.safetensors", b"\x80\x04}q\x00.")
    weights(project, "sq.safetensors", "squeezenet1_0")
    weights(project, "alex.safetensors", "alexnet")
    weights_header(project / "mute.safetensors", "squeezenet1_0", {"format": "pt"})
    before = (project / "params.yaml").read_bytes()
    code, out, err = run("-C", project, "params", "init", *arguments, "--force")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1 and said in err, err
    assert (project / "params.yaml").read_bytes() == before


def _classes(project: Path, folder: Path) -> None:
    from PIL import Image

    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            Image.fromarray(np.full((20, 30, 3), len(name + split), np.uint8)).save(folder / split / name / "1.png")
    import_dataset("folders", folder, "kinds", ReadOptions(), project / "artifacts")


def test_an_edited_file_is_only_replaced_by_force_and_kept(run: Run, project: Path) -> None:
    call = ("-C", project, "params", "init", "--dataset", "pets", *ALEXNET)
    files = [project / "params.yaml", project / "detectors/sppnet/params.yaml"]
    files[0].write_text(files[0].read_text().replace("C: 0.001", "C: 0.02"))
    before = [file.read_bytes() for file in files]
    code, out, err = run(*call)
    assert (code, out) == (2, "")
    assert "params.yaml: holds other values, which git does not have; --force replaces it" in err
    assert "  dataset: scenes -> pets" in err and [file.read_bytes() for file in files] == before
    code, out, err = run(*call, "--force")
    assert code == 0 and "the former is" in out
    assert [file.with_name("params.yaml.before").read_bytes() for file in files] == before
    assert run(*call)[0] == 0  # nothing to lose: the same once more
    files[0].write_text(before[0].decode())
    assert run(*call, "--force")[0] == 0
    assert files[0].with_name("params.yaml.before2").read_bytes() == before[0]
    assert load_params(Layout(project)).dataset == "pets"


def test_a_file_as_git_has_it_is_replaced(run: Run, project: Path) -> None:
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"]):
        subprocess.run(["git", "-C", project, *command], check=True)
    code, out, err = run("-C", project, "params", "init", "--dataset", "pets", *ALEXNET)
    assert code == 0 and "the former is" not in out and "dataset: scenes -> pets" in err
    assert not list(project.rglob("*.before*"))


def test_other_detectors_with_another_network_are_named(run: Run, project: Path) -> None:
    (project / "detectors/mine").mkdir()
    (project / "detectors/mine/params.yaml").write_text("kind: sppnet\nnetwork: {name: zf5, weights: z.safetensors}\n")
    code, _, err = run("-C", project, "params", "init", "--dataset", "pets", *ALEXNET, "--force")
    assert code == 0 and "mine/params.yaml: has another network.name and is left as it is" in err


def test_what_the_machine_and_the_demo_need_is_kept(project: Path) -> None:
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("workers: 0", "workers: 3").replace("seed: 3", "seed: 11"))
    init(project, "alexnet", "IMAGENET1K_V1")
    params = load_params(Layout(project))
    assert (params.execution.workers, params.seed) == (3, 11)


def test_params_without_a_command_still_shows(run: Run, project: Path) -> None:
    assert "svm.C" in run("-C", project, "params", "svm.C")[1]
    assert "svm.C" in run("-C", project, "params", "show", "svm.C")[1]
    assert "dataset" in run("-C", project, "params")[1]
    assert run("-C", project, "params", "--markdown")[1].startswith("#")
    assert "init" in run("-C", project, "params", "--help")[1]


@pytest.mark.parametrize(
    ("text", "document", "expected"),
    [
        ("# old\n\na: 1   # why\n", {"a": 2}, "# new\n\na: 2   # why\n"),
        ("g:   # of it\n  a: 1.50   # why\n", {"g": {"a": 1.5}}, "# new\n\ng:   # of it\n  a: 1.50   # why\n"),
        ("g: {a: 1, b: x}   # both\n", {"g": {"a": 1, "b": None}}, "# new\n\ng: {a: 1, b: null}   # both\n"),
        ("a: 'it # is'\n", {"a": "007"}, "# new\n\na: '007'"),
        ("a:\n- 1\n- 2\n", {"a": [3]}, "# new\n\na: [3]\n"),  # over several lines: nothing of it is kept
        ("a: 1\n", {"a": 1, "b": {"c": [1.0]}}, "# new\n\na: 1\n\nb:\n  c: [1]\n"),
    ],
)
def test_values_in_a_files_lines(text: str, document: dict[str, object], expected: str) -> None:
    made = with_values(text, "# new\n", document, {})
    assert made.startswith(expected) and yaml.safe_load(made) == document


@pytest.mark.parametrize(
    "value", ["yes", "1e5", "12:30", "a: b", "# x", "é", "", None, 0.1, -1.0001, 1e-7, [], {"a": [1]}]
)
def test_any_value_reads_back(value: object) -> None:
    assert yaml.safe_load(f"a: {flow(value)}") == {"a": value}


def test_differences_name_what_is_gone_and_what_is_new() -> None:
    found = list(differences({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": [4]}, "e": None}))
    assert found == ["a.c: 2 -> [4]", "d: 3 -> -", "e: - -> null"]


REGION_KINDS = ("fast", "faster", "joint")


def with_region_detectors(project: Path) -> Path:
    """Give a project the three detectors that pool regions from a shared map, with nothing but their kinds."""
    for kind in REGION_KINDS:
        (project / "detectors" / kind).mkdir()
        (project / "detectors" / kind / "params.yaml").write_text(f"kind: {kind}\n")
    return project


def unreached(project: Path, params: Params) -> list[int]:
    """Count the training objects that no anchor of a network with these parameters overlaps by more than half."""
    network, settings = params.groups.of("network", NetworkSettings), params.groups.of("rpn", AnchorSettings)
    maps = params.groups.of("maps", MapsSettings)
    shared = cut(build(network.name, 2, pyramid=network.pyramid, fc=network.fc, device="meta"), None)
    shared.rpn_shape = rpn_shape(settings, shared)
    dataset = load_registered("pets", project / "artifacts").dataset
    images = TrainingImages(
        dataset.split("train"), short_px=maps.short_px, long_px=maps.long_px, difficult=False, mirror=False
    )
    found = AnchorTargets(shared, images, settings).coverage(len(dataset.classes))
    return [int(count) for count in found.missed]


@pytest.mark.parametrize("preset", ["small", "medium"])
@pytest.mark.parametrize(
    ("network", "grid", "fc"),
    [("squeezenet1_0", 7, (1024, 1024)), ("zf5", 6, None), ("small", 4, None), ("vgg16", 7, None)],
)
def test_detectors_on_a_shared_map_get_a_head_and_anchors_that_fit(
    project: Path, network: str, grid: int, fc: tuple[int, int] | None, preset: str
) -> None:
    with_region_detectors(project)
    weights_header(project / "w.safetensors", network, {"input": "RGB, minus 0.485, by 0.229"})
    init(project, network, "w.safetensors", preset)
    for kind in REGION_KINDS:
        params = load_params(Layout(project, kind))
        settings = params.groups.of("network", NetworkSettings)
        assert settings.fc == fc
        assert cut(build(network, 2, pyramid=settings.pyramid, fc=settings.fc, device="meta"), None).grid == grid
        maps = params.groups.of("maps", MapsSettings)
        # images of 120 x 90 px: eight cells by the shorter side, of 8 px for small and of 16 px for the others
        assert maps.short_px == {"small": 90}.get(network, 128)
        assert maps.long_px == {"small": 150}.get(network, 213)
        if kind != "fast":
            assert unreached(project, params) == [0, 0]
    groups = {kind: load_params(Layout(project, kind)).groups for kind in REGION_KINDS}
    for pooled in (
        *(groups[kind].of("fast", FastSettings) for kind in ("fast", "faster")),
        groups["joint"].of("fast", JointRoiSettings),
    ):
        assert (pooled.pooling, pooled.sigma) == ("align", 3)
    for training in (
        groups["faster"].of("rpn", RpnSettings),
        groups["fast"].of("fast", FastSettings),
        groups["joint"].of("joint", JointSettings),
    ):
        assert (training.iterations, training.lr) == ({"small": 100, "medium": 600}[preset], 0.001)
        assert 0 < float(str(training.step)) < training.iterations


def test_of_the_papers_preset_all_of_a_shared_maps_values_are_the_defaults(project: Path) -> None:
    with_region_detectors(project)
    weights_header(project / "w.safetensors", "zf5", {"input": "BGR, minus (104, 117, 123)"})
    reasons = init(project, "zf5", "w.safetensors", "paper")
    groups = {kind: load_params(Layout(project, kind)).groups for kind in REGION_KINDS}
    for kind in REGION_KINDS:
        assert groups[kind].of("maps", MapsSettings) == MapsSettings()
        assert groups[kind].of("roi_detect", RoiDetectSettings) == RoiDetectSettings()
    for kind in ("faster", "joint"):
        assert groups[kind].of("propose", ProposeSettings) == ProposeSettings()
    assert groups["faster"].of("rpn", RpnSettings) == RpnSettings()
    assert groups["faster"].of("fast", FastSettings) == groups["fast"].of("fast", FastSettings) == FastSettings()
    assert groups["joint"].of("rpn", AnchorSettings) == AnchorSettings()
    assert groups["joint"].of("fast", JointRoiSettings) == JointRoiSettings()
    assert groups["joint"].of("joint", JointSettings) == JointSettings()
    assert sum(line.startswith("anchors: 128, 256, 512 px (the paper)") for line in reasons) == 1  # told once


def test_small_objects_and_crowds_ask_for_more(project: Path, tmp_path: Path) -> None:
    folder = voc_folder(tmp_path / "crowd", {"train": 2, "test": 1}, width=1200, height=900, objects=120)
    register(with_region_detectors(project), folder, "pets")
    reasons = init(project, "alexnet", "IMAGENET1K_V1", "small")
    groups = load_params(Layout(project, "faster")).groups
    # 300 px would make the objects of 50 x 40 px ones of 15 px, below two cells of 16 px
    assert groups.of("maps", MapsSettings).short_px == 600
    assert groups.of("roi_detect", RoiDetectSettings).max_per_image == 200  # 1.5 x 120, in fifties
    assert groups.of("propose", ProposeSettings).after_nms == 400  # 3 x 120
    assert groups.of("propose", ProposeSettings).min_side_px == 16
    assert any(line.startswith("maps: images scaled to 600 px") and "raised" in line for line in reasons)


def test_images_that_hold_no_anchor_are_trained_on_with_crossing_ones(project: Path, tmp_path: Path) -> None:
    folder = voc_folder(tmp_path / "close", {"train": 2, "test": 1})
    for file in folder.glob("Annotations/*.xml"):  # an object that is the whole image
        whole = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>120</xmax><ymax>90</ymax></bndbox>"
        file.write_text(re.sub(r"<bndbox>.*</bndbox>", whole, file.read_text()))
    register(with_region_detectors(project), folder, "pets")
    reasons = init(project, "alexnet", "IMAGENET1K_V1")
    assert load_params(Layout(project, "joint")).groups.of("rpn", AnchorSettings).border_px is None
    assert any("in 2 of 2 training images no other lies within" in line for line in reasons)


def test_weights_with_another_head_get_a_new_one_or_leave_the_detector_as_it_is(project: Path) -> None:
    with_region_detectors(project)
    own = build("small", 4, pyramid=(1, 2), generator=torch.Generator().manual_seed(0))
    save_weights(project / "own.safetensors", own)
    reasons = init(project, "small", "own.safetensors")
    settings = load_params(Layout(project, "joint")).groups.of("network", NetworkSettings)
    assert (settings.pyramid, settings.fc) == ((7,), (1024, 1024))
    assert any("comes with an fc6 for a pyramid of [1, 2]" in line for line in reasons)
    before = (project / "detectors/fast/params.yaml").read_bytes()
    headed = build("small", 4, pyramid=(1, 2), fc=(16, 16), generator=torch.Generator().manual_seed(0))
    save_weights(project / "headed.safetensors", headed)
    reasons = init(project, "small", "headed.safetensors")
    left = [line for line in reasons if "left as it is, since it cannot work" in line]
    assert len(left) == 3 and all("pyramid [1, 2]" in line for line in left)
    assert (project / "detectors/fast/params.yaml").read_bytes() == before
    assert load_params(Layout(project)).groups.of("network", NetworkSettings).weights == "headed.safetensors"


def with_overfeat(project: Path) -> Path:
    (project / "detectors/overfeat").mkdir()
    (project / "detectors/overfeat/params.yaml").write_text("kind: overfeat\n")
    return project


@pytest.mark.parametrize("preset", ["small", "medium", "paper"])
@pytest.mark.parametrize("network", ["squeezenet1_0", "resnet50", "alexnet", "zf", "small", "overfeat_fast"])
def test_overfeats_detector_gets_windows_and_scales_that_have_them(project: Path, network: str, preset: str) -> None:
    with_overfeat(project)
    weights_header(project / "w.safetensors", network, {"input": "RGB, minus 0.485, by 0.229"})
    reasons = init(project, network, "w.safetensors", preset)
    assert not [line for line in reasons if "left as it is" in line]
    groups = load_params(Layout(project, "overfeat")).groups
    settings = groups.of("network", NetworkSettings)
    spec = planned_network(settings, project).input  # of which a new head is not yet a part
    windows = windows_of(build(network, 2, pyramid=settings.pyramid, fc=settings.fc, spec=spec, device="meta").eval())
    scales = groups.of("maps", DenseMapsSettings).scales_px
    if preset == "paper":
        assert scales is None
        assert groups.of("regress", RegressSettings) == RegressSettings()
        assert groups.of("finetune_dense", FinetuneDenseSettings) == FinetuneDenseSettings()
        return
    check_scales(scales or (), windows, "maps.scales_px")
    # each object of the training images is at one of the scales between half a window and a whole one
    images = load_registered("pets", project / "artifacts").dataset.split("train")
    for record in images:
        for box in record.boxes:
            side = float(np.sqrt((box[2] - box[0]) * (box[3] - box[1])))
            seen = [side * scale / min(record.width, record.height) / windows.side_px for scale in scales or ()]
            assert any(0.5 <= share <= 1 for share in seen) or max(seen) < 0.5, seen


def test_a_rare_class_of_small_objects_is_reached_by_overfeats_scales_or_named(project: Path, tmp_path: Path) -> None:
    """Forty objects of 40 px and two of 9 px, of another class: on images of 90 px half a window of 147 px each."""
    folder = voc_folder(tmp_path / "cells", {"train": 2, "test": 1}, objects=20)
    for name in ("train0", "train1"):
        file = folder / f"Annotations/{name}.xml"
        corners = "<xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax>"
        small = f"<object><name>mite</name><bndbox>{corners}</bndbox></object></annotation>"
        file.write_text(file.read_text().replace("</annotation>", small))
    register(project, folder, "cells")
    with_overfeat(project)
    weights_header(project / "w.safetensors", "squeezenet1_0", {"input": "RGB, minus 0.485, by 0.229"})
    wanted = 0.8 * 147 * 90 / 9  # at which 9 px fill four fifths of a window
    reasons = init(project, "squeezenet1_0", "w.safetensors", "small", dataset="cells")
    assert [line for line in reasons if "'mite'" in line] == [
        "scales: 2 of 2 objects of class 'mite' are among them, so that few of it will be found: "
        f"add {math.ceil(wanted / 10) * 10} to maps.scales_px for it"
    ]
    assert any("5% of the objects are small for these windows even at 700 px" in line for line in reasons)
    assert not any("'cat'" in line or "'dog'" in line for line in reasons if "are among them" in line)


@pytest.mark.slow
def test_a_detector_on_a_shared_map_runs_up_to_its_proposals_as_written(run: Run, project: Path) -> None:
    with_region_detectors(project)
    tensors = build("squeezenet1_0", 5, generator=torch.Generator().manual_seed(0)).trunk.state_dict()
    save_file(tensors, project / "sq.safetensors", {"input": "BGR, 0-255, minus (104, 117, 123)"})
    call = ("--dataset", "pets", "--network", "squeezenet1_0", "--weights", "sq.safetensors", "--small", "--force")
    code, out, err = run("-C", project, "params", "init", *call)
    assert code == 0 and "`dvc repro detectors/faster/dvc.yaml`" in err, err
    assert "anchors: " in out and "head: squeezenet1_0 has no fc6" in out
    file = project / "detectors/faster/params.yaml"
    document = yaml.safe_load(file.read_text())
    document["rpn"] |= {"iterations": 2, "step": 1}
    file.write_text(yaml.safe_dump(document))
    assert run("-C", project, "run", "manifest")[0] == 0
    code, _, err = run("-C", project, "-d", "faster", "run", "pretrain", "rpn_1", "propose_1")
    assert code == 0, err
    assert "has no anchor" not in err and "have no anchor" not in err
    found = json.loads((project / "artifacts/detectors/faster/propose_1/manifest.json").read_text())
    assert found["params"]["maps"]["short_px"] == 128 and found["summary"]["splits"]["test"]["boxes"] > 0
    assert len(found["summary"]["anchors"]) == 3 * len(document["rpn"]["scales_px"])


@pytest.mark.slow
def test_both_detectors_run_up_to_features_as_written(run: Run, project: Path) -> None:
    tensors = build("squeezenet1_0", 5, generator=torch.Generator().manual_seed(0)).trunk.state_dict()
    save_file(tensors, project / "sq.safetensors", {"input": "BGR, 0-255, minus (104, 117, 123)"})
    call = ("--dataset", "pets", "--network", "squeezenet1_0", "--weights", "sq.safetensors", "--small", "--force")
    code, _, err = run("-C", project, "params", "init", *call)
    assert code == 0, err
    for file in (project / "params.yaml", project / "detectors/sppnet/params.yaml"):
        document = yaml.safe_load(file.read_text())
        few = {"fg_per_batch": 2, "bg_per_batch": 4, "held_out_fraction": 0}
        document["finetune"] |= few | {"iterations": min(1, document["finetune"]["iterations"])}
        document["features"]["spp"]["scales_px"] = [200]
        if "proposals" in document:
            document["proposals"] |= {"max_proposals": 6, "resize_width_px": None}
        file.write_text(yaml.safe_dump(document))
    code, _, err = run("-C", project, "run", "manifest", "proposals", "pretrain", "finetune", "features")
    assert code == 0, err
    code, _, err = run("-C", project, "-d", "sppnet", "run", "pretrain", "finetune", "features")
    assert code == 0, err
    for folder, length in (("artifacts", 4608), ("artifacts/detectors/sppnet", 512 * 50)):
        found = json.loads((project / folder / "features/manifest.json").read_text())
        assert found["summary"]["layers"] == {"pool5": length}


@pytest.mark.parametrize("name", ["007", "1e5", "no", "2024-01-02"])
def test_a_dataset_named_like_a_number_or_a_word_is_written_in_quotes(
    run: Run, project: Path, tmp_path: Path, name: str
) -> None:
    from ruamel.yaml import YAML  # DVC's

    register(project, tmp_path / "pets", name)  # the folder of the fixture
    params = project / "params.yaml"
    for before in (params.read_text(), params.read_text().replace("dataset: scenes", f"dataset: {name}")):
        params.write_text(before)
        command = ("-C", project, "params", "init", "--dataset", name, "--network", "alexnet", "--force")
        code, _, err = run(*command, "--weights", "IMAGENET1K_V1")
        assert code == 0, err
        assert YAML(typ="safe").load(params.read_text())["dataset"] == load_params(Layout(project)).dataset == name
