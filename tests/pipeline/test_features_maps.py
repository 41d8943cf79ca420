"""``rcnn features`` of detectors that store feature maps, or nothing."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from small_files import voc_folder

from cache import Artifact, Store
from manifests import ReadOptions, import_dataset, load_dataset
from stages.faster.maps import SharedMapsCompute, described, map_task
from stages.faster.network import cut
from stages.faster.settings import MapsSettings
from stages.networks.network import build

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def mapped(run: Run, project: Path, tmp_path: Path) -> Path:
    """A project whose detector ``mine`` has stored the maps of a training and a test image of 120 x 90 px."""
    import_dataset(
        "voc", voc_folder(tmp_path / "pets", {"train": 1, "test": 1}), "pets", ReadOptions(), project / "artifacts"
    )
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("dataset: scenes", "dataset: pets"))
    for kind in ("faster", "joint"):
        assert run("-C", project, "detector", "add", {"faster": "mine", "joint": "other"}[kind], "--kind", kind)[0] == 0
    assert run("-C", project, "run", "manifest")[0] == 0
    network = cut(build("small", 3, generator=torch.Generator().manual_seed(0)), None)
    settings, store = MapsSettings(short_px=180, long_px=400), Store(project / "artifacts")
    made_of = described(network, settings)
    read = lambda record: np.full((record.height, record.width, 3), 100, np.uint8)  # noqa: E731
    compute = SharedMapsCompute(read, network, settings, "cpu", made_of)
    entries = []
    for record in load_dataset(project / "artifacts/manifest/manifest.json").images:
        task = map_task(record, made_of, mirrored=record.split == "train")
        entries.append((record.id, store.put(task.recipe, compute(task))))
    folder = project / "artifacts/detectors/mine/maps"
    folder.mkdir(parents=True)
    Artifact("maps", 1, {}, {}, tuple(entries), {}).write(folder / "manifest.json")
    return project


def test_an_images_maps_are_shown(run: Run, mapped: Path) -> None:
    code, out, _ = run("-C", mapped, "-d", "mine", "features", "show", "train0.jpg")
    assert code == 0
    assert "train0.jpg, 120x90, split train" in out and "/objects/maps/" in out
    # 90 px become 180, so 120 become 240; this network's cells are 8 px apart: 23 rows, 30 columns of 64 channels
    assert (
        "layer features.11 of small, of the image at 240x180 (2 times as large; maps.short_px 180, long_px 400)" in out
    )
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[-2:]] == ["map", "mirrored"]
    assert all("23 x 30 x 64 float16" in line for line in lines[-2:])
    code, out, _ = run("-C", mapped, "-d", "mine", "features", "show", "test0.jpg")
    assert code == 0 and "mirrored" not in out


def test_where_there_are_no_features_one_line_says_so(run: Run, mapped: Path) -> None:
    for arguments, expected in (
        (("-d", "mine", "features", "export", "--npy", "x.npy"), "stores whole images' maps"),
        (("-d", "other", "features", "show", "1"), "detector other: one of kind joint stores no features"),
        (
            ("-d", "other", "features", "export", "--npy", "x.npy"),
            "detector other: one of kind joint stores no features",
        ),
    ):
        code, out, err = run("-C", mapped, *arguments)
        assert (code, out) == (2, "") and expected in err and len(err.splitlines()) == 1


def test_maps_are_listed_like_any_stages_objects(run: Run, mapped: Path) -> None:
    code, out, _ = run("-C", mapped, "cache", "ls", "maps")
    assert code == 0 and "train0.jpg" in out and "test0.jpg" in out
