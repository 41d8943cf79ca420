"""The stage entry: its parameters are the generator's, and it writes where its declaration says."""

from dataclasses import asdict
from pathlib import Path

import pytest
from pydantic import ValidationError
from stage_context import StageContext

from manifests import load_dataset
from manifests.scenes import SceneOptions
from stages.scenes.settings import ScenesSettings


def test_defaults_are_the_generator_s() -> None:
    assert ScenesSettings().model_dump() == asdict(SceneOptions())
    assert ScenesSettings().options() == SceneOptions()


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"objects_min": 7}, "objects_min"),
        ({"height_px": 200}, "object_max_px"),
        ({"texture_probability": 1.01}, "texture_probability"),
        ({"n_test": 0}, "n_test"),
        ({"n_tests": 5}, "n_tests"),
    ],
)
def test_bad_values_are_refused_by_name(values: dict[str, float], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        ScenesSettings(**values)


def test_run_writes_the_declared_manifest_and_reports_every_scene(tmp_path: Path) -> None:
    settings = ScenesSettings(n_train=2, n_test=1, classification_train=10, classification_val=10)
    context = StageContext(tmp_path, "scenes", {"scenes": settings})
    context.run()
    dataset = load_dataset(tmp_path / "artifacts/datasets/scenes/manifest.json")
    assert len(dataset.images) == 3
    assert context.log.seen == [1, 2, 3]
    assert f"{sum(len(r.labels) for r in dataset.images)} digits" in context.log.infos[0]
    assert (tmp_path / "artifacts/datasets/scenes/classification.npz").exists()
