"""``rcnn features``: look into cached features."""

from pathlib import Path
from typing import Any

import click
import numpy as np

from cache import Artifact, Store
from manifests import Dataset, ImageRecord
from pipeline.text import format_table
from pipeline.workspace import open_store
from stages.common.featureset import FeatureSet
from stages.common.half import as_float32
from stages.common.models import Classifier, read_classifier


@click.group()
def features() -> None:
    """Look into cached features."""


@features.command()
@click.argument("image_id")
@click.option("--top", type=click.IntRange(0, 1000), default=3, help="Best regions per class.")
@click.pass_obj
def show(project: Path, image_id: str, top: int) -> None:
    """Shape, sparsity and norms of one image's features, and its best-scoring regions per class.

    IMAGE_ID: the number or the name of an image of the current dataset manifest.
    """
    artifacts = project / "artifacts"
    artifact = Artifact.read(artifacts / "features" / "manifest.json")
    dataset = Dataset.load(artifacts / "manifest" / "manifest.json")
    by_number = image_id.isdigit() and any(image.id == int(image_id) for image in dataset.images)
    record = dataset.image(int(image_id) if by_number else image_id)
    store = open_store(project)
    _show_layers(store, artifact, record)
    model = artifacts / "svm" / "model.h5"
    if model.exists() and top:
        _show_best(FeatureSet(store, artifact), record, read_classifier(model), top)


def _show_layers(store: Store, artifact: Artifact, record: ImageRecord) -> None:
    found = FeatureSet(store, artifact)
    key = artifact.keys[record.id]
    click.echo(f"image {record.id} {record.file_name}, {record.width}x{record.height}, split {record.split}")
    click.echo(f"object {store.path('features', key)}")
    rows = []
    for layer in found.dims:
        stored = next(iter(found.layer(layer, [record.id]))).features
        values = as_float32(stored)
        norms = np.linalg.norm(values, axis=1) if len(values) else np.zeros(1)
        rows.append(
            (
                layer,
                f"{values.shape[0]} x {values.shape[1]} {stored.dtype}",
                f"{(values == 0).mean() if values.size else 0:.1%}",
                f"{norms.min():.4g}",
                f"{norms.mean():.4g}",
                f"{norms.max():.4g}",
                f"{values.max(initial=0):.4g}",
            )
        )
    header = ("layer", "regions x units", "zeros", "norm min", "mean", "max", "largest value")
    click.echo(format_table(header, rows, right=(2, 3, 4, 5, 6)))


def _show_best(found: FeatureSet, record: ImageRecord, classifier: Classifier, top: int) -> None:
    image = next(iter(found.layer(classifier.layer, [record.id])))
    scores = classifier.scores(image.features)
    rows: list[tuple[Any, ...]] = []
    for j, name in enumerate(classifier.classes):
        for i in np.argsort(-scores[:, j], kind="stable")[:top]:
            box = " ".join(f"{v:.1f}" for v in image.boxes[i])
            kind = "ground truth" if image.is_gt[i] else "proposal"
            rows.append((name, f"{scores[i, j]:.3f}", int(i), kind, box, f"{image.overlaps[i, j]:.2f}"))
    click.echo(f"\nbest regions by {classifier.kind} score on {classifier.layer} (ground truth is scored too)")
    click.echo(format_table(("class", "score", "row", "kind", "x1 y1 x2 y2", "IoU"), rows, right=(1, 2, 5)))
