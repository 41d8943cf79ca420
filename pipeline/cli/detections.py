"""``rcnn detections``: put a run's detections aside, or bring another program's, to combine and compare."""

from itertools import pairwise
from pathlib import Path

import click
import numpy as np

from cache import Artifact, Store, StoreError, digest_file, digest_json
from cache.cores import usable_cores
from cache.listing import dataset_of
from cache.text import format_table
from cache.transfer import copy
from pipeline.cli.types import GivenPath
from pipeline.graph import own_detections
from pipeline.progress import Reporter
from pipeline.workspace import current_dataset, current_layout, open_store, saved_detections
from stages.detections.imported import Origin, imported_objects
from stages.detections.saved import OTHER, checked, detector_of, saved_path
from stages.detections.suppression import BoxSet
from stages.graph import SAVED
from stages.scoring.objects import FlatDetections
from stages.scoring.results import READERS

from .ilsvrc_results import write_ilsvrc
from .put_aside import check_free, check_name


@click.group()
def detections() -> None:
    """Save a run's detections under a name, or import another program's, for combine.detectors."""


@detections.command()
@click.argument("name")
@click.option(
    "--from",
    "source",
    type=GivenPath(exists=True, file_okay=False, path_type=Path),
    help="Another project's folder, whose cached detections are copied here (default: this project).",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "ilsvrc"]),
    default="json",
    show_default=True,
    help="json: for combine.detectors. ilsvrc: text for ILSVRC's devkit.",
)
@click.option(
    "--list",
    "list_file",
    type=GivenPath(dir_okay=False, path_type=Path),
    help="ilsvrc: the devkit's val.txt or test.txt, whose numbers the images have.",
)
@click.option(
    "--out", type=GivenPath(file_okay=False, path_type=Path), help="ilsvrc: folder to write to.  [default: reports]"
)
@click.option("--force", is_flag=True, help="Replace what was saved under this name.")
@click.pass_obj
def save(
    project: Path, name: str, source: Path | None, form: str, list_file: Path | None, out: Path | None, force: bool
) -> None:
    """Save the detections of the last run, made before any combining, as detections/NAME.json.

    combine.detectors: [NAME] then joins them with those of other parameters. `rcnn cache gc` keeps their objects, also
    with --workspace, until the file is removed. With --format ilsvrc: NAME.txt, lines of `image class score x1 y1 x2
    y2`, and where no --list numbers the images, NAME_list.txt (docs/ilsvrc.md).
    """
    check_name(name)
    origin = source or project
    made = origin / own_detections(origin, current_layout(origin).name)
    if form == "ilsvrc":
        if source is not None:
            raise click.UsageError("--format ilsvrc writes this project's own detections; run it there, without --from")
        files = write_ilsvrc(project, checked(made), name, list_file, out or project / "reports", force=force)
        click.echo(", ".join(map(str, files)))
        return
    if list_file is not None or out is not None:
        raise click.UsageError("--list and --out are for --format ilsvrc")
    artifact, target = checked(made), saved_path(project / SAVED, name)
    check_free(target, artifact.to_bytes(), "detections", force=force)
    _bring(origin, made, open_store(origin), open_store(project), artifact)
    target.parent.mkdir(exist_ok=True)
    artifact.write(target)
    click.echo(
        f"{target}: {detector_of(artifact)}; {len(artifact.entries)} images; "
        f"combine.detectors: [{name}] joins them with others"
    )


@detections.command("import")
@click.argument("form", type=click.Choice(list(READERS)))
@click.argument("path", type=GivenPath(path_type=Path), metavar="FILE|FOLDER")
@click.option("--name", required=True, help="What to call them.")
@click.option(
    "--scores",
    type=click.Choice(["svm", "softmax", OTHER]),
    default=OTHER,
    help="What the scores are like; only detections with like scores are suppressed together.",
)
@click.option("--regressed/--as-proposed", default=True, help="Whether boxes are regressed, or proposals' own.")
@click.option("--clip", is_flag=True, help="Cut boxes off at their image's edge, however far they reach.")
@click.option("--force", is_flag=True, help="Replace other detections saved under this name.")
@click.pass_obj
def import_results(
    project: Path, form: str, path: Path, name: str, scores: str, regressed: bool, clip: bool, force: bool
) -> None:
    """Bring another program's detections of the test images in as detections/NAME.json.

    coco: a results JSON. voc: a folder of comp4_det_test_CLASS.txt. Ids and names are those of
    artifacts/manifest/manifest.json. `rcnn detector add NEW --kind combined --of NAME` scores them (docs/detectors.md).
    """
    check_name(name)
    dataset = current_dataset(project)
    records = dataset.split("test")
    read = READERS[form](path, dataset, "test", clip=clip)
    for note in read.notes:
        click.echo(f"note: {note}", err=True)
    origin = Origin(f"{form} results {path.name}", _digest(path), scores, regressed)
    target = saved_path(project / SAVED, name)
    artifact, objects = imported_objects(dataset, records, _by_image(read.detections, len(records)), origin)
    check_free(target, artifact.to_bytes(), "detections", force=force)
    store = open_store(project)
    for recipe, payload in objects:
        store.put(recipe, payload)
    store.register(artifact)
    target.parent.mkdir(exist_ok=True)
    artifact.write(target)
    click.echo(f"{target}: {len(read.detections)} detections in {len(records)} images")


def _by_image(found: FlatDetections, n_images: int) -> list[BoxSet]:
    """Return each image's detections."""
    ends = np.searchsorted(found.image, np.arange(n_images + 1))
    parts = (slice(start, end) for start, end in pairwise(ends.tolist()))
    return [BoxSet(found.boxes[part], found.scores[part], found.labels[part]) for part in parts]


def _digest(path: Path) -> str:
    """Return one digest of a file, or of the files of a folder."""
    if path.is_file():
        return digest_file(path)
    return digest_json({one.name: digest_file(one) for one in sorted(path.iterdir()) if one.is_file()})


@detections.command("ls")
@click.pass_obj
def list_saved(project: Path) -> None:
    """What is saved: name, dataset, images, which detector's, and how many cached objects are missing."""
    store = open_store(project)
    rows = []
    for path, artifact in saved_detections(project).items():
        lacking = len(store.missing(artifact.stage, artifact.keys.values()))
        gaps = f"{lacking} missing" if lacking else ""
        rows.append((path.stem, dataset_of(artifact), len(artifact.entries), detector_of(artifact), gaps))
    click.echo(format_table(("name", "dataset", "images", "detector", ""), rows, right=(2,)))


def _bring(origin: Path, made: Path, source: Store, target: Store, artifact: Artifact) -> None:
    """See that this project's store has the objects, and keeps them; raises StoreError where it cannot."""
    if str(source.root) != str(target.root):
        log = Reporter("detections")
        done = copy(source, target, [artifact], usable_cores(), lambda n, of, _: log.progress(n, of, "objects"))
        if done.problems:
            raise StoreError(f"{origin}: {len(done.problems)} objects cannot be had; the first: {done.problems[0]}")
        return
    if lacking := len(target.missing(artifact.stage, artifact.keys.values())):
        raise StoreError(
            f"{made}: {lacking} of its {len(artifact.entries)} objects are not in the store {target.root}; "
            "`rcnn cache pull` may have them, `dvc repro -f -s detect` computes them"
        )
    target.register(artifact)
