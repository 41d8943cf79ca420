"""``rcnn features``: look into cached features or maps, draw regions as crops, write a layer to a file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from cache import Artifact, Store
from cache.errors import StageError
from cache.outputs import OutputFolder
from cache.text import format_table
from manifests import ImageRecord
from pipeline.cli.crops import crops, image_named
from pipeline.cli.types import GivenPath
from pipeline.progress import Reporter
from pipeline.workspace import current_dataset, current_layout, open_params, open_store, untouchable
from stages.features.export import export_npy, export_parquet, index_name
from stages.features.featureset import FeatureSet, LayerView
from stages.kernels.float16 import as_float32
from stages.svm.classifier import Classifier, read_classifier
from stages.svm.settings import SvmSettings

from .stored import stored_node
from .units import units


@click.group()
def features() -> None:
    """Look into cached features, and into stored feature maps."""


features.add_command(units)


@features.command()
@click.argument("image_id")
@click.option("--top", type=click.IntRange(0, 1000), default=3, help="Best regions per class.")
@click.pass_obj
def show(project: Path, image_id: str, top: int) -> None:
    """Shape, sparsity and norms of one image's features, and its best-scoring regions per class.

    Of a detector that stores feature maps, Faster R-CNN in four steps, the image's maps: their shape and scale.

    IMAGE_ID: the number, or the file's name, of an image of the current dataset manifest.
    """
    artifacts, kept = current_layout(project).artifacts, stored_node(project)
    artifact = Artifact.read(artifacts / kept / "manifest.json")
    dataset = current_dataset(project)
    record = image_named(dataset, image_id)
    store = open_store(project)
    if kept == "maps":
        _show_maps(store, artifact, record)
        return
    _show_layers(store, artifact, record)
    model = artifacts / "svm" / "model.h5"
    if model.exists() and top:
        _show_best(FeatureSet(store, artifact), record, read_classifier(model), top)


features.add_command(crops)


@features.command()
@click.option("--layer", default=None, help="Which stored layer (default: svm.layer).")
@click.option("--split", type=click.Choice(["train", "test"]), default=None, help="Only these images (default: all).")
@click.option("--npy", type=GivenPath(dir_okay=False, path_type=Path), help="Write this .npy and an index beside it.")
@click.option("--parquet", type=GivenPath(dir_okay=False, path_type=Path), help="Write this Parquet file.")
@click.option("--force", is_flag=True, help="Replace a file that is there, though no export wrote it.")
@click.pass_obj
def export(
    project: Path, layer: str | None, split: str | None, npy: Path | None, parquet: Path | None, force: bool
) -> None:
    """Write one layer's features of all regions to a file for other programs.

    --npy X.npy: a matrix [regions, units], and X.regions.npz with image id, row, box, ground-truth class and overlaps
    of each. --parquet: the same as columns. What an earlier export wrote and nobody changed is replaced.
    """
    if (npy is None) == (parquet is None):
        raise click.UsageError("say where to: --npy FILE or --parquet FILE")
    if npy is not None and npy.suffix != ".npy":
        raise click.UsageError(f"{npy}: the name of a matrix ends in .npy")
    target = npy or parquet
    assert target is not None
    if not target.parent.is_dir():
        raise click.UsageError(f"{target.parent}: no such folder; make it first")
    outputs = OutputFolder(
        target.parent,
        "give another name, or --force to replace it",
        force=force,
        elsewhere="give a file in another folder",
    )
    names = [target.name] if npy is None else [target.name, index_name(target.name)]
    outputs.check(names, protected=untouchable(project))
    view, classes = _view(project, layer, split)
    outputs.prepare()
    write: Callable[..., int] = export_npy if npy is not None else export_parquet
    log = Reporter("export")
    rows = write(view, outputs, target.name, classes, lambda done, total: log.progress(done, total, "images"))
    where = " and ".join(str(target.parent / name) for name in names)
    click.echo(f"{rows} regions x {view.dtype_and_length()[1]} units of {view.layer} in {where}")


def _view(project: Path, layer: str | None, split: str | None) -> tuple[LayerView, tuple[str, ...]]:
    if stored_node(project) != "features":
        raise StageError("features export: this detector stores whole images' maps, not regions' features, to export")
    features = current_layout(project).artifacts / "features" / "manifest.json"
    found = FeatureSet(open_store(project), Artifact.read(features))
    dataset = current_dataset(project)
    ids = [image.id for image in (dataset.split(split) if split else dataset.images)]
    wanted = layer or open_params(project).groups.of("svm", SvmSettings).layer
    return found.layer(wanted, ids, read_ahead=2), dataset.classes


def _show_maps(store: Store, artifact: Artifact, record: ImageRecord) -> None:
    key = artifact.keys[record.id]
    told = store.describe(artifact.stage, key)
    attrs = told["attrs"]
    width, height = attrs["scaled_px"]
    click.echo(f"image {record.id} {record.file_name}, {record.width}x{record.height}, split {record.split}")
    click.echo(f"object {told['path']}")
    click.echo(
        f"layer {attrs['layer']} of {attrs['network']}, of the image at {width}x{height} "
        f"({width / record.width:.4g} times as large; maps.short_px {attrs['short_px']}, long_px {attrs['long_px']})"
    )
    rows = []
    for name in told["arrays"]:
        stored = store.get(artifact.stage, key, [name]).arrays[name]
        values = as_float32(stored.reshape(-1, stored.shape[-1]))
        rows.append(
            (
                name,
                f"{' x '.join(map(str, stored.shape))} {stored.dtype}",
                f"{(values == 0).mean():.1%}",
                f"{values.mean():.4g}",
                f"{values.max():.4g}",
            )
        )
    click.echo(
        format_table(("map", "rows x columns x channels", "zeros", "mean", "largest value"), rows, right=(2, 3, 4))
    )


def _show_layers(store: Store, artifact: Artifact, record: ImageRecord) -> None:
    found = FeatureSet(store, artifact)
    key = artifact.keys[record.id]
    click.echo(f"image {record.id} {record.file_name}, {record.width}x{record.height}, split {record.split}")
    click.echo(f"object {store.describe('features', key)['path']}")
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
    click.echo(format_table(("class", "score", "row", "kind", "x1 y1 x2 y2", "overlap"), rows, right=(1, 2, 5)))
