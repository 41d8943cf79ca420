"""``rcnn features units``: what it computes once, shows and refuses."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_files import voc_folder

from cache import Artifact, Payload, Recipe, Store, digest_file
from manifests import ReadOptions, import_dataset, load_dataset
from stages.features.settings import FeaturesSettings
from stages.networks.network import build
from stages.networks.settings import NetworkSettings
from stages.networks.weights import save_weights
from stages.units.objects import read_units

Run = Callable[..., tuple[int, str, str]]
FEATURES = "artifacts/features/manifest.json"
PAGE = "reports/units-pool5.html"


@pytest.fixture
def looked(run: Run, project: Path, tmp_path: Path) -> Path:
    """A project of four images, 120 x 90 px, of 12 regions each, with features of the network ``small``."""
    splits = {"train": 3, "test": 1}
    import_dataset("voc", voc_folder(tmp_path / "pets", splits), "pets", ReadOptions(), project / "artifacts")
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("dataset: scenes", "dataset: pets"))
    assert run("-C", project, "run", "manifest")[0] == 0
    weights = project / "artifacts/finetune/weights.safetensors"
    weights.parent.mkdir()
    save_weights(weights, build("small", 4, generator=torch.Generator().manual_seed(0)))
    store, entries, rng = Store(project / "artifacts"), [], np.random.default_rng(0)
    for record in load_dataset(project / "artifacts/manifest/manifest.json").images:
        corners = rng.uniform(0, 60, (12, 2))
        pool5 = np.maximum(rng.normal(size=(12, 1024)), 0).astype(np.float16)
        pool5[:, 16 * 3 : 16 * 4] = 0  # channel 3
        arrays = {
            "boxes": np.concatenate([corners, corners + 25], axis=1).astype(np.float32),
            "is_gt": np.arange(12) < 1,
            "gt_class": np.where(np.arange(12) < 1, 0, -1),
            "difficult": np.zeros(12, bool),
            "overlaps": np.zeros((12, 1), np.float32),
            "pool5": pool5,
            "fc6": np.maximum(rng.normal(size=(12, 512)), 0).astype(np.float16),
        }
        payload = Payload(arrays, {"image": record.file_name, "image_sha256": record.sha256, "count": 12}, "zarr")
        entries.append((record.id, store.put(Recipe("features", 1, {}, {"image": record.id}), payload)))
    models = {"features": FeaturesSettings(), "network": NetworkSettings(name="small")}
    made_with = {name: model.model_dump(mode="json") for name, model in models.items()}
    artifact = Artifact(
        "features",
        2,
        made_with,
        {"weights": digest_file(weights)},
        tuple(entries),
        {"layers": {"pool5": 1024, "fc6": 512}},
    )
    (project / FEATURES).parent.mkdir()
    artifact.write(project / FEATURES)
    return project


def test_a_second_call_reads_no_features_and_shows_what_is_asked(run: Run, looked: Path) -> None:
    code, said, err = run("-C", looked, "features", "units", "--top", 5)
    assert code == 0, err
    assert said.startswith("pool5: 1024 units, 16 silent, in 4 images; object ") and "page of 64 units" in said
    text = (looked / PAGE).read_text()
    assert "small on 4 images of pets" in text and "64 channels of 4 x 4 cells" in text
    assert text.count('class="unit"') == 64 and "channel 3, cell 2, 2: silent" in text
    assert "16 of 1024 units are positive for no region" in text
    key = Path(said.split("object ")[1].splitlines()[0]).name
    store = Store(looked / "artifacts")
    found = read_units(store, key)
    assert found.values.shape == (1024, 5) and found.images.max() == 3
    features = Artifact.read(looked / FEATURES)
    ids = store.get("units", key, ["image_ids"]).arrays["image_ids"].tolist()
    for unit in (0, 77, 1023):
        place = (ids[found.images[unit, 0]], found.rows[unit, 0])
        every = [store.get("features", one, ["pool5"]).arrays["pool5"][:, unit] for one in features.keys.values()]
        assert found.values[unit, 0] == np.max(every) == every[list(features.keys).index(place[0])][place[1]]
    code, said, err = run("-C", looked, "cache", "gc", "--grace", "0", "--delete")
    assert code == 0 and said.startswith("0 entries"), said + err
    code, said, err = run("-C", looked, "features", "units", "--top", 5, "--unit", "0,1,2", "--unit", "3,3,5")
    assert code == 0 and "taken from the store" in err and "page of 2 units" in said, err
    text = (looked / PAGE).read_text()
    assert 'id="unit-33"' in text and 'id="unit-95"' in text and text.count('class="unit"') == 2


def test_other_layers_splits_and_fields(run: Run, looked: Path) -> None:
    code, said, err = run("-C", looked, "features", "units", "--layer", "fc6", "--split", "train", "--channels", 7)
    assert code == 0 and "fc6: 512 units, 0 silent, in 3 images" in said, err
    assert (looked / "reports/units-fc6.html").read_text().count('class="unit"') == 7
    out = looked / "mine"
    pages = []
    for field in ("true", "explorer"):
        code, _, err = run("-C", looked, "features", "units", "--unit", "0,0,0", "--field", field, "--out", out)
        assert code == 0, err
        pages.append((out / "units-pool5.html").read_text())
    code, said, err = run("-C", looked, "features", "units", "--early-floor", "--out", out)
    assert code == 0 and "taken from the store" not in err, err  # another object than the exact one
    # small at 64 px: cell 0 sees -44 to 44; evenly spaced it would lie at 8
    assert "width:70.31%" in pages[0] and "width:82.81%" in pages[1]


def test_the_stage_writes_the_command_s_page_and_shares_its_object(run: Run, looked: Path) -> None:
    params = looked / "params.yaml"
    group = "units: {layer: null, top: 1000, early_floor: false, channels: 256, shown: 16}"
    assert group in params.read_text()
    code, _, err = run("-C", looked, "run", "units")
    assert code == 0 and "pool5: 1024 units, 16 silent, in 4 images; reports/analysis/units.html: 64 units" in err, err
    code, _, err = run("-C", looked, "features", "units")
    assert code == 0 and "taken from the store" in err, err
    page = looked / "reports/analysis/units.html"
    assert page.read_bytes() == (looked / PAGE).read_bytes()
    params.write_text(params.read_text().replace(group, "units: {layer: fc6, top: 5, channels: 7, shown: 2}"))
    assert run("-C", looked, "run", "units")[0] == 0
    options = ("--layer", "fc6", "--top", 5, "--channels", 7, "--shown", 2)
    assert run("-C", looked, "features", "units", *options)[0] == 0
    assert page.read_bytes() == (looked / "reports/units-fc6.html").read_bytes()
    params.write_text(params.read_text().replace("layer: fc6, top", "layer: fc9, top"))
    code, _, err = run("-C", looked, "run", "units")
    assert code == 2 and "layer 'fc9' is not among the stored features (fc6, pool5)" in err.splitlines()[-1]
    assert page.read_bytes() == (looked / "reports/units-fc6.html").read_bytes()


def test_without_pool5_the_layer_is_the_one_that_is_scored(run: Run, looked: Path) -> None:
    artifact, params = Artifact.read(looked / FEATURES), looked / "params.yaml"
    replace(artifact, summary={"layers": {"fc6": 512}}).write(looked / FEATURES)
    code, _, err = run("-C", looked, "run", "units")
    assert code == 2 and "layer 'fc7' is not among the stored features (fc6)" in err
    params.write_text(params.read_text().replace("layer: fc7", "layer: fc6"))
    code, _, err = run("-C", looked, "run", "units")
    assert code == 0 and "fc6: 512 units" in err


def test_the_stage_is_of_detectors_that_store_regions_features(run: Run, looked: Path) -> None:
    for kind in ("faster", "sppnet"):
        assert run("-C", looked, "detector", "add", f"my-{kind}", "--kind", kind)[0] == 0
    code, _, err = run("-C", looked, "-d", "my-faster", "run", "units")
    assert code == 2 and "units" in err and "Traceback" not in err
    code, _, err = run("-C", looked, "-d", "my-sppnet", "run", "units")
    assert code == 2 and "artifacts/detectors/my-sppnet/features/manifest.json: not found" in err


def test_pooled_regions_have_no_cells(run: Run, looked: Path) -> None:
    """SPP-net's pool5 is a pyramid of the region itself."""
    artifact = Artifact.read(looked / FEATURES)
    pooled = FeaturesSettings(method="spp").model_dump(mode="json")
    replace(artifact, params={**artifact.params, "features": pooled}).write(looked / FEATURES)
    code, said, err = run("-C", looked, "features", "units", "--unit", "1023")
    assert code == 0 and "page of 1 unit" in said, err
    text = (looked / PAGE).read_text()
    assert "The layer has no cells" in text and 'id="unit-1023"' in text and "<b style" not in text


def test_bad_input_is_one_line(run: Run, looked: Path) -> None:
    refused = [
        (("--layer", "fc9"), "layer 'fc9' is not among the stored features (fc6, pool5)"),
        (("--layer", "fc6", "--unit", "1,2,3"), "--unit 1,2,3: layer fc6 has no cells; write a number"),
        (("--unit", "5"), "--unit 5: layer pool5 has cells; write Y,X,C"),
        (("--unit", "4,0,0"), "--unit 4,0,0: layer pool5 has 4 x 4 x 64 units (Y, X, C), counted from 0"),
        (("--unit", "-1,0,0"), "--unit -1,0,0: layer pool5 has cells; write Y,X,C"),
        (("--out", looked / "artifacts"), "nothing was written"),
    ]
    for arguments, wrong in refused:
        code, _, err = run("-C", looked, "features", "units", *arguments)
        assert code == 2 and wrong in err and err.count("\n") == 1, err
    (looked / PAGE).parent.mkdir(exist_ok=True)
    (looked / PAGE).write_text("mine")
    code, _, err = run("-C", looked, "features", "units")
    assert code == 2 and "would be replaced" in err and (looked / PAGE).read_text() == "mine"
    (looked / PAGE).unlink()
    artifact = Artifact.read(looked / FEATURES)
    replace(artifact, inputs={"weights": "0" * 64}).write(looked / FEATURES)
    code, _, err = run("-C", looked, "features", "units")
    assert code == 2 and "weights.safetensors: not the one that" in err and err.count("\n") == 1
    (looked / FEATURES).unlink()
    code, _, err = run("-C", looked, "features", "units")
    assert code == 2 and "Traceback" not in err and err.count("\n") == 1
    assert run("-C", looked, "detector", "add", "mine", "--kind", "faster")[0] == 0
    code, _, err = run("-C", looked, "-d", "mine", "features", "units")
    assert code == 2 and "this detector stores whole images' maps" in err
