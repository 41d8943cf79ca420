"""Segmentation in a small project: what it reads, makes and makes again, and the same maps of new images."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools import mask as coco
from sklearn.metrics import confusion_matrix, jaccard_score

from cache import Artifact, Store, digest_file
from manifests import ImageSource, load_dataset
from manifests.masks import VOID, label_map_png, read_masks, voc_palette
from rcnn import Segmenter
from stages.features.crops import Crop, extractor
from stages.graph import SEGMENTATION, root_nodes
from stages.networks.settings import NetworkSettings
from stages.networks.weights import load_weights
from stages.segmentation.regressors import read_regressors
from stages.segmentation.rows import read_rows
from stages.segmentation.settings import RegionFeaturesSettings
from stages.training.held_out import held_out

NAMES = [one.name for one in SEGMENTATION]
NODES = {name: root_nodes()[name] for name in NAMES}
# Not inputs: the store, checkpoints, locks, parameters, times, the record itself; and what the manifest's digests hold.
NO_INPUT = (
    *("artifacts/objects", "artifacts/refs", "artifacts/tmp", "artifacts/store.json", "artifacts/checkpoints"),
    *("artifacts/.locks", "params.yaml", "reports/timings.json", "reads.json", "artifacts/datasets/scenes/"),
)
Run = Callable[..., Any]


@pytest.fixture(scope="module")
def segmented(finished: Path, record_rcnn: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished project with all stages of segmentation run. Not to be changed: take ``copied`` for that."""
    project = Path(shutil.copytree(finished, tmp_path_factory.mktemp("segmented") / "project"))
    record_rcnn(project, project / "reads.json", "run", *NAMES)
    return project


@pytest.fixture
def copied(segmented: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(segmented, tmp_path / "project"))


def change(project: Path, group: str, **values: Any) -> None:
    params = yaml.safe_load((project / "params.yaml").read_text())
    params[group].update(values)
    (project / "params.yaml").write_text(yaml.safe_dump(params))


def computed(said: str) -> dict[str, int]:
    """How many images each stage computed."""
    lines = [line.split(": ", 1) for line in said.splitlines() if " images computed" in line]
    return {name: int(rest.split()[0]) for name, rest in lines}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_stage_reads_what_it_declares(segmented: Path, name: str) -> None:
    reads = json.loads((segmented / "reads.json").read_text())[name]
    node, stage, root = NODES[name], NODES[name].stage, segmented.resolve()
    models = {*stage.settings.values(), *stage.reads.values()}
    assert set(reads["settings"]) == {model.__name__ for model in models}
    assert bool(reads["seed"]) == stage.seeded
    assert set(reads["input"]) == set(node.inputs)
    files = (Path(path).resolve() for path in reads["open"] if Path(path).is_file())
    opened = {path.relative_to(root).as_posix() for path in files if path.is_relative_to(root)}
    allowed = (*node.inputs.values(), *node.outputs.values())
    strange = {
        p for p in opened if not p.startswith(NO_INPUT) and not any(p == a or p.startswith(f"{a}/") for a in allowed)
    }
    assert not strange


@pytest.mark.slow
def test_maps_are_palette_pictures_and_the_figures_are_those_of_the_maps(segmented: Path) -> None:
    dataset = load_dataset(segmented / "artifacts/manifest/manifest.json")
    source = ImageSource.registered(segmented / "artifacts/datasets/scenes")
    truths, results = [], []
    for record in dataset.split("test"):
        with Image.open((segmented / "reports/segmentation/maps" / record.file_name).with_suffix(".png")) as image:
            assert image.mode == "P" and image.size == (record.width, record.height)
            assert image.getpalette() == [value for colour in voc_palette() for value in colour]
            results.append(np.asarray(image).reshape(-1))
        truths.append(read_masks(source, record, dataset.category_ids).class_map().reshape(-1))
    truth, result = np.concatenate(truths), np.concatenate(results)
    truth, result = truth[truth != VOID], result[truth != VOID]
    report = json.loads((segmented / "reports/segmentation.json").read_text())
    labels = np.arange(len(dataset.classes) + 1)
    assert report["confusion"] == confusion_matrix(truth, result, labels=labels).tolist()
    there = np.unique(np.concatenate([truth, result]))
    assert report["mean_iou"] == pytest.approx(jaccard_score(truth, result, labels=there, average="macro"))
    plain = jaccard_score(truth, np.zeros_like(truth), labels=np.unique(np.append(truth, 0)), average="macro")
    assert report["references"]["background"] == pytest.approx(plain)
    names = ("background", *dataset.classes)
    assert report["absent"] == [names[c] for c in labels if c not in there]
    assert 0.1 < report["oracle"]["used_regions"] <= report["oracle"]["all_regions"] <= 1


@pytest.mark.slow
def test_the_page_shows_pictures_tables_and_the_threshold(segmented: Path) -> None:
    html = (segmented / "reports/segmentation/index.html").read_text()
    for heading in ("Best", "Worst", "Drawn at random"):
        assert f"<h3>{heading}</h3>" in html
    assert "47.9" in html and "43.7" in html  # the paper's Table 5
    assert "training images that no regressor saw" in html
    assert html.count("data:image/jpeg") >= 3 * 5


@pytest.mark.slow
def test_rows_are_aligned_with_the_proposals(segmented: Path) -> None:
    """Row i of what regressors see is the region's i-th proposal; full rows are those that are cached."""
    store = Store(segmented / "artifacts")
    lists = {
        name: Artifact.read(segmented / f"artifacts/{name}/manifest.json") for name in ("features", "region_features")
    }
    record = load_dataset(segmented / "artifacts/manifest/manifest.json").split("test")[0]
    keys = {name: one.keys[record.id] for name, one in lists.items()}
    rows = read_rows(store, keys, RegionFeaturesSettings(max_regions=7))
    full = store.get("features", keys["features"]).arrays
    fg = store.get("region_features", keys["region_features"])
    first = int(full["is_gt"].sum())
    assert np.array_equal(rows[:, : full["fc6"].shape[1]], full["fc6"][first : first + 7])
    skipped = int(fg.attrs["objects"])
    assert np.array_equal(rows[:, full["fc6"].shape[1] :], fg.arrays["fc6"][skipped : skipped + 7])
    only = {"features": keys["features"]}
    of_objects = read_rows(store, only, RegionFeaturesSettings(features="full"), np.arange(first))
    assert np.array_equal(of_objects, full["fc6"])


@pytest.mark.slow
def test_what_runs_again(copied: Path, run_rcnn: Run) -> None:
    before = {p: p.read_bytes() for p in (copied / "reports/segmentation").rglob("*") if p.is_file()}
    again = run_rcnn(copied, "run", *NAMES).stderr
    assert computed(again) == {"region_overlaps": 0, "region_features": 0, "paste": 0}
    assert "trained before" in again
    assert before == {p: p.read_bytes() for p in (copied / "reports/segmentation").rglob("*") if p.is_file()}
    change(copied, "svr", C=1.0)
    other = computed(run_rcnn(copied, "run", *NAMES).stderr)
    assert other["region_overlaps"] == other["region_features"] == 0 and other["paste"] > 0
    change(copied, "paste", per_rank=0.05, rise=0.02)
    assert computed(run_rcnn(copied, "run", *NAMES).stderr) == {"region_overlaps": 0, "region_features": 0, "paste": 0}
    change(copied, "paste", max_segments=1, threshold=0.1)
    other = computed(run_rcnn(copied, "run", *NAMES).stderr)
    assert other == {"region_overlaps": 0, "region_features": 0, "paste": other["paste"]} and other["paste"] > 0
    change(copied, "region_features", features="full")
    assert computed(run_rcnn(copied, "run", *NAMES[:2]).stderr)["region_overlaps"] == 0
    assert Artifact.read(copied / "artifacts/region_features/manifest.json").entries == ()


@pytest.mark.slow
def test_the_background_and_a_ranking_are_regressed_where_they_are_asked_for(
    copied: Path, run_rcnn: Run, tmp_path: Path
) -> None:
    """Two more regressors, of the same rows; new images get the same map; a model without them is refused."""
    plain = read_regressors(copied / "artifacts/svr/model.h5")
    change(copied, "paste", background=True, rank_regions=9, threshold=0.05)
    refused = run_rcnn(copied, "run", "paste", check=False)
    assert refused.returncode == 2 and "or paste asks for other regressors" in refused.stderr
    other = computed(run_rcnn(copied, "run", *NAMES).stderr)
    assert other["region_overlaps"] == other["region_features"] == 0 and other["paste"] > 0
    model = read_regressors(copied / "artifacts/svr/model.h5")
    n = len(plain.classes)
    assert model.further == ("background", "object") and np.array_equal(model.weights[:n], plain.weights)
    fits = (copied / "artifacts/svr/fits.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in fits[-2:]] == ["(background)", "(object)"]
    store, pasted = Store(copied / "artifacts"), Artifact.read(copied / "artifacts/paste/manifest.json")
    assert all(store.get("paste", key).attrs["count"] <= 9 for _, key in pasted.entries)
    record = load_dataset(copied / "artifacts/manifest/manifest.json").split("test")[0]
    file = ImageSource.registered(copied / "artifacts/datasets/scenes").root / record.file_name
    run_rcnn(copied, "segment", str(file), "--out", str(tmp_path / "out"))
    made = (copied / "reports/segmentation/maps" / record.file_name).with_suffix(".png")
    assert (tmp_path / "out" / made.name).read_bytes() == made.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("features", ["full", "fg", "full_fg"])
def test_mirrored_objects_are_rows_of_the_training(copied: Path, run_rcnn: Run, features: str) -> None:
    """Rows are those of crops of the mirror image made here; no other feature is computed again."""
    before = Artifact.read(copied / "artifacts/region_features/manifest.json").entries
    change(copied, "region_features", features=features, mirror_truth=True)
    said = run_rcnn(copied, "run", "region_features", "svr").stderr
    if features != "full":
        assert Artifact.read(copied / "artifacts/region_features/manifest.json").entries == before
    mirrored = Artifact.read(copied / "artifacts/region_features/mirrored.json")
    dataset = load_dataset(copied / "artifacts/manifest/manifest.json")
    trained = dataset.split("train")
    assert [image for image, _ in mirrored.entries] == [record.id for record in trained]
    assert computed(said)["region_features"] in (0, len(trained))  # of the second list, which computes nothing
    record, source = trained[0], ImageSource.registered(copied / "artifacts/datasets/scenes")
    masks = read_masks(source, record, dataset.category_ids)
    settings = yaml.safe_load((copied / "params.yaml").read_text())
    network = load_weights(copied / "artifacts/finetune/weights.safetensors", pool5_grid=None)
    crop = Crop(settings["features"]["crop"], settings["features"]["context_px"])
    look = extractor(network, ["fc6"], crop, NetworkSettings(**settings["network"]), "cpu")
    flipped = np.ascontiguousarray(np.fliplr(source.read(record)))
    shown = masks.rows >= 0
    boxes = record.boxes[masks.rows[shown]][:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [record.width, 0, record.width, 0]
    objects = np.flip(masks.objects[shown], axis=2)
    parts = [look(flipped, boxes)["fc6"]] if features != "fg" else []
    if features != "full":
        parts.append(look(flipped, boxes, lambda row, w: objects[row, w[1] : w[3], w[0] : w[2]])["fc6"])
    found = Store(copied / "artifacts").get("region_features", mirrored.keys[record.id]).arrays["fc6"]
    assert np.array_equal(found, np.concatenate(parts, axis=1).astype(np.float16))
    rows = [int(line.split(",")[3]) for line in (copied / "artifacts/svr/fits.csv").read_text().splitlines()[1:]]
    change(copied, "region_features", mirror_truth=False)
    run_rcnn(copied, "run", "region_features", "svr")
    fits = (copied / "artifacts/svr/fits.csv").read_text().splitlines()[1:]
    without = [int(line.split(",")[3]) for line in fits]
    apart = held_out(trained, settings["svr"]["held_out_fraction"], settings["seed"])
    objects_trained = sum(
        int((read_masks(source, one, dataset.category_ids).rows >= 0).sum()) for one in trained if one.id not in apart
    )
    assert [row - other for row, other in zip(rows, without, strict=True)] == [objects_trained] * len(rows)


@pytest.mark.slow
def test_c_and_epsilon_are_chosen_of_several_on_held_out_images(copied: Path, run_rcnn: Run) -> None:
    """The pair whose best-scored regions overlap most, as the log has it; the model is that of the pair alone."""
    change(copied, "svr", C=[0.01, 3.0], epsilon=[0.1, 0.25])
    said = run_rcnn(copied, "run", "svr", "paste", "segment_evaluate").stderr
    lines = [line.split(": ") for line in said.splitlines() if "held-out images overlap by" in line]
    reached = {line[1]: float(line[2].split()[-1]) for line in lines}
    assert list(reached) == [f"C {c}, epsilon {e}" for c in ("0.01", "3") for e in ("0.1", "0.25")]
    report = json.loads((copied / "reports/segmentation.json").read_text())
    assert reached[f"C {report['C']:g}, epsilon {report['epsilon']:g}"] == max(reached.values())
    chosen = read_regressors(copied / "artifacts/svr/model.h5")
    assert chosen.chosen == (report["C"], report["epsilon"])
    change(copied, "svr", C=report["C"], epsilon=report["epsilon"])
    run_rcnn(copied, "run", "svr")
    alone = read_regressors(copied / "artifacts/svr/model.h5")
    assert alone.chosen is None and np.array_equal(alone.weights, chosen.weights)


@pytest.mark.slow
def test_a_foreground_is_padded_with_the_mean_however_boxes_are(copied: Path, run_rcnn: Run, tmp_path: Path) -> None:
    change(copied, "features", padding="replicate")
    change(copied, "paste", threshold=0.05)
    run_rcnn(copied, "run", "features", *NAMES)
    source = ImageSource.registered(copied / "artifacts/datasets/scenes").root
    records = load_dataset(copied / "artifacts/manifest/manifest.json").split("test")
    run_rcnn(copied, "segment", *(str(source / one.file_name) for one in records), "--out", str(tmp_path / "out"))
    for record in records:
        made = (copied / "reports/segmentation/maps" / record.file_name).with_suffix(".png")
        assert (tmp_path / "out" / made.name).read_bytes() == made.read_bytes()


@pytest.mark.slow
def test_of_an_image_added_nothing_else_is_computed(finished: Path, run_rcnn: Run, tmp_path: Path) -> None:
    """And one that is void all over counts nowhere, which is said."""
    project = Path(shutil.copytree(finished, tmp_path / "project"))
    path = project / "artifacts/manifest/manifest.json"
    whole = json.loads(path.read_text())
    last = max(image["id"] for image in whole["images"] if image["split"] == "test")
    fewer = whole | {
        "images": [one for one in whole["images"] if one["id"] != last],
        "annotations": [one for one in whole["annotations"] if one["image_id"] != last],
    }
    path.write_text(json.dumps(fewer))
    run_rcnn(project, "run", *NAMES)
    before = json.loads((project / "reports/segmentation.json").read_text())
    path.write_text(json.dumps(whole))
    said = run_rcnn(project, "run", *NAMES).stderr
    assert computed(said) == {"region_overlaps": 1, "region_features": 1, "paste": 1} and "trained before" in said
    report = json.loads((project / "reports/segmentation.json").read_text())
    assert report["images"] == before["images"] + 1 and report["images_all_void"] == 0
    (image,) = (one for one in whole["images"] if one["id"] == last)
    file = ImageSource.registered(project / "artifacts/datasets/scenes").masks / "void.png"
    file.write_bytes(label_map_png(np.full((image["height"], image["width"]), VOID, np.uint8), file.name))
    for kind in ("class", "object"):
        image["masks"] |= {f"{kind}_map": file.name, f"{kind}_sha256": digest_file(file)}
    whole["annotations"] = fewer["annotations"]
    path.write_text(json.dumps(whole))
    said = run_rcnn(project, "run", *NAMES).stderr
    assert computed(said) == {"region_overlaps": 1, "region_features": 1, "paste": 1}
    assert "1 test images are void all over and count nowhere" in said
    report = json.loads((project / "reports/segmentation.json").read_text())
    assert report["images_all_void"] == 1 and report["confusion"] == before["confusion"]
    first = next(one for one in whole["images"] if one["split"] == "train")
    assert (first["height"], first["width"]) == (image["height"], image["width"])
    first["masks"] = image["masks"]
    whole["annotations"] = [one for one in whole["annotations"] if one["image_id"] != first["id"]]
    path.write_text(json.dumps(whole))
    for number in (1, 0):  # with its overlaps in the store, too
        refused = run_rcnn(project, "run", "region_overlaps", check=False)
        assert computed(refused.stderr) == {"region_overlaps": number}
        assert refused.returncode == 2 and f"{first['file_name']}: its mask is void all over" in refused.stderr


@pytest.mark.slow
def test_without_a_region_above_the_threshold_all_is_background_and_counted(copied: Path, run_rcnn: Run) -> None:
    change(copied, "paste", threshold=5.0)
    said = run_rcnn(copied, "run", *NAMES).stderr
    maps = list((copied / "reports/segmentation/maps").rglob("*.png"))
    assert len(maps) == 5 and f"{len(maps)} images have none and are all background" in said
    for path in maps:
        with Image.open(path) as image:
            assert not np.asarray(image).any()
    report = json.loads((copied / "reports/segmentation.json").read_text())
    assert report["images_without_regions"] == report["images"] == len(maps)
    assert report["mean_iou"] == report["references"]["background"]
    assert np.asarray(report["confusion"])[:, 1:].sum() == 0
    html = (copied / "reports/segmentation/index.html").read_text()
    assert f"{len(maps)} images of {len(maps)} have no such region: all background" in html


@pytest.mark.slow
def test_any_number_of_workers_makes_the_same_bits(copied: Path, run_rcnn: Run) -> None:
    kept = ["artifacts/svr/model.h5", "artifacts/svr/fits.csv", "reports/segmentation.json"]
    before = [(copied / name).read_bytes() for name in kept]
    for name in NAMES:
        shutil.rmtree(copied / f"artifacts/objects/{name}", ignore_errors=True)
    change(copied, "execution", workers=1)
    run_rcnn(copied, "run", *NAMES)
    assert before == [(copied / name).read_bytes() for name in kept]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
def test_new_images_get_the_maps_of_the_pipeline(copied: Path, run_rcnn: Run, tmp_path: Path) -> None:
    dataset = load_dataset(copied / "artifacts/manifest/manifest.json")
    source = ImageSource.registered(copied / "artifacts/datasets/scenes")
    records = dataset.split("test")[:2]
    files = [source.root / record.file_name for record in records]
    change(copied, "paste", threshold=0.05)
    run_rcnn(copied, "run", "paste")
    out = tmp_path / "out"
    run_rcnn(copied, "segment", *map(str, files), "--out", str(out))
    results = json.loads((out / "segments.json").read_text())
    for number, (record, file) in enumerate(zip(records, files, strict=True), 1):
        made = (copied / "reports/segmentation/maps" / record.file_name).with_suffix(".png")
        assert (out / f"{file.stem}.png").read_bytes() == made.read_bytes()
        assert (out / f"{file.stem}.segments.jpg").exists()
        own = [one for one in results if one["image_id"] == number]
        drawn = np.zeros((record.height, record.width), np.uint8)
        for one in reversed(own):  # best first
            drawn[coco.decode(one["segmentation"]) > 0] = one["category_id"]
        with Image.open(made) as image:
            assert np.array_equal(np.asarray(image), drawn)
    found = Segmenter.load(copied, device="cpu")(files[0])
    assert len(found.segments) == sum(one["image_id"] == 1 for one in results) > 0
    none = Segmenter.load(copied, device="cpu")(files[0], threshold=5.0)
    assert not none.segments and not none.labels.any()
    again = run_rcnn(copied, "segment", str(files[0]), "--out", str(out), "--threshold", "5")
    assert "1 maps of 0 regions" in again.stdout


def remove_a_map(project: Path) -> None:
    next((project / "reports/segmentation/maps").glob("**/*.png")).unlink()


def mirror_pooled_objects(project: Path) -> None:
    change(project, "features", method="spp")
    change(project, "region_features", features="full", mirror_truth=True)


def damage_the_model(project: Path) -> None:
    (project / "artifacts/svr/model.h5").write_bytes(b"no")


def annotate_in_part(project: Path) -> None:
    path = project / "artifacts/manifest/manifest.json"
    document = json.loads(path.read_text())
    next(image for image in document["images"] if image["split"] == "train")["exhaustive"] = False
    path.write_text(json.dumps(document))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("break_it", "stage", "says"),
    [
        (lambda p: change(p, "region_features", layer="fc9"), "region_features", "region_features.layer: 'fc9' is not"),
        (lambda p: change(p, "region_features", layer="fc9"), "region_overlaps", "region_features.layer: 'fc9' is not"),
        (lambda p: change(p, "features", method="spp"), "region_overlaps", "full_fg is of crops, and features.method"),
        (mirror_pooled_objects, "region_overlaps", "region_features.mirror_truth: looks at crops"),
        (lambda p: change(p, "features", method="spp"), "region_features", "full_fg is of crops, and features.method"),
        (lambda p: change(p, "svr", held_out_fraction=0), "manifest", "paste.threshold: train is found on held-out"),
        (lambda p: change(p, "svr", C=[1, 3], held_out_fraction=0), "manifest", "svr.C and svr.epsilon: of several"),
        (lambda p: change(p, "svr", C=[1, -3]), "manifest", "svr.C.1 = -3: input should be greater than 0"),
        (
            lambda p: change(p, "paste", rank_regions=300),
            "manifest",
            "paste.rank_regions (300) must be below region_fea",
        ),
        (lambda p: change(p, "paste", goal=-1), "paste", "paste.goal = -1: input should be greater"),
        (remove_a_map, "segment_evaluate", "dvc repro -f segmentation/dvc.yaml"),
        (annotate_in_part, "region_overlaps", "region_overlaps: 1 of"),
        (damage_the_model, "paste", "model.h5: not a readable HDF5 file"),
    ],
)
def test_what_is_wrong_is_one_line(
    copied: Path, run_rcnn: Run, break_it: Callable[[Path], object], stage: str, says: str
) -> None:
    break_it(copied)
    done = run_rcnn(copied, "run", stage, check=False)
    assert done.returncode == 2
    assert says in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_dataset_without_masks_is_refused_by_name(copied: Path, run_rcnn: Run) -> None:
    path = copied / "artifacts/manifest/manifest.json"
    document = json.loads(path.read_text())
    for image in document["images"][:2]:
        assert image.pop("masks")
    path.write_text(json.dumps(document))
    done = run_rcnn(copied, "run", "region_overlaps", check=False)
    assert done.returncode == 2
    assert done.stderr.count("has no masks; import its dataset with masks") == 2


@pytest.mark.slow
def test_a_class_without_a_pixel_is_refused_by_name(copied: Path, run_rcnn: Run) -> None:
    path = copied / "artifacts/manifest/manifest.json"
    document = json.loads(path.read_text())
    document["categories"].append({"id": 99, "name": "zebra"})
    path.write_text(json.dumps(document))
    run_rcnn(copied, "run", "region_overlaps")
    done = run_rcnn(copied, "run", "svr", check=False)
    assert done.returncode == 2
    assert "no mask of the training images has a pixel of zebra" in done.stderr


def test_a_project_that_has_no_segmentation_is_told_what_to_run(finished: Path, tmp_path: Path, run_rcnn: Run) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    done = run_rcnn(finished, "segment", str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "region_features" in done.stderr
