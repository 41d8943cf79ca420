"""``rcnn diagnose``."""

from pathlib import Path
from typing import Any, Literal

import click

from cache.documents import json_text
from cache.errors import StageError
from cache.outputs import OutputFolder
from cache.text import nearest
from manifests import load_registered
from pipeline.workspace import untouchable
from stages.diagnosis.document import diagnosed, nothing_annotated
from stages.diagnosis.page import page
from stages.diagnosis.settings import DiagnoseSettings
from stages.diagnosis.table import object_rows, read_table
from stages.scoring.files import WITH_BBOX
from stages.scoring.results import READERS

_PAGE, _FIGURES = "diagnosis.html", "diagnosis.json"
_DEFAULT = DiagnoseSettings()


@click.command()
@click.option(
    "--detections",
    "path",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE|FOLDER",
    help="COCO's results JSON, or a folder of VOC's comp4_det_test_CLASS.txt.",
)
@click.option("--dataset", "name", required=True, metavar="NAME", help="The registered dataset that was searched.")
@click.option("--split", default="test", help="The split of it that was searched.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write to.")
@click.option(
    "--iou", type=click.FloatRange(0.1, 1, min_open=True), default=_DEFAULT.iou, help="Least IoU to be right."
)
@click.option(
    "--matching",
    type=click.Choice(["voc", "hoiem"]),
    default=_DEFAULT.matching,
    help="Each detection with its nearest object, or with the best one not yet found.",
)
@click.option(
    "--similar",
    multiple=True,
    metavar="voc|coco|none|CLASS,CLASS,...",
    help="Which classes are similar; give the last form once for each set.  [default: voc]",
)
@click.option("--background-twice", is_flag=True, help="Count background as the authors' program does.")
@click.option(
    "--normal-objects",
    type=click.FloatRange(min=0, min_open=True),
    help="Objects that a class's precision is normalised to.  [default: 0.15 of the images]",
)
@click.option(
    "--characteristics",
    "table",
    type=click.Path(path_type=Path),
    metavar="FILE.csv",
    help="What objects are like: rows of annotation,name,value.",
)
@click.option("--clip", is_flag=True, help="Cut boxes off at their image's edge, however far they reach.")
@click.pass_obj
def diagnose(
    project: Path, /, path: Path, name: str, split: str, out: Path, table: Path | None, clip: bool, **options: Any
) -> None:
    """Tell what any detector's false positives are, and which objects it misses.

    Writes a page, diagnosis.html, and all of its figures, diagnosis.json (docs/analysis.md). No file is replaced but
    those that an earlier `rcnn diagnose` wrote to the folder, and nobody changed since.
    """
    outputs = OutputFolder(out, "give another folder by --out")
    protected = untouchable(project) if (project / "params.yaml").exists() else {}
    outputs.check([_PAGE, _FIGURES], [path, *([] if table is None else [table])], protected)
    dataset = load_registered(name, project / "artifacts").dataset
    tested = dataset.split(split)
    if (problem := nothing_annotated(tested, f"dataset {name}, split {split}")) is not None:
        raise StageError(problem)
    settings = DiagnoseSettings(
        iou=options["iou"],
        matching=options["matching"],
        similar_classes=_sets(options["similar"], dataset.classes),
        background_twice=options["background_twice"],
        normal_objects=options["normal_objects"],
    )
    values = {} if table is None else read_table(table, object_rows(dataset, tested, dataset.classes))
    read = READERS[_form(path)](path, dataset, tested, clip=clip)
    title = f"{path.name} on {name}"
    made = diagnosed(title, tested, dataset.classes, {WITH_BBOX: read.detections}, values, settings)
    outputs.prepare()
    outputs.write(_FIGURES, json_text(made.document()).encode())
    outputs.write(_PAGE, page(made).encode())
    for note in (*read.notes, *made.notes):
        click.echo(f"note: {note}", err=True)
    click.echo(f"{out / _PAGE}: {made.summary()}")


def _form(path: Path) -> str:
    """Return the form of a file or folder of results."""
    if path.suffix == ".txt":
        raise click.UsageError(f"--detections {path}: of comp4 files give the folder, which has one for each class")
    return "voc" if path.is_dir() else "coco"


def _sets(given: tuple[str, ...], classes: tuple[str, ...]) -> Literal["voc", "coco"] | tuple[tuple[str, ...], ...]:
    """Return what ``--similar`` says; a class that the dataset lacks is an error here, since somebody typed it."""
    if given in {(), ("voc",)}:
        return "voc"
    if given == ("coco",):
        return "coco"
    if given == ("none",):
        return ()
    sets = tuple(tuple(one.strip() for one in text.split(",")) for text in given)
    for one in sets:
        for member in one:
            if member not in classes:
                raise click.UsageError(
                    f"--similar: class {member!r} is none of the dataset's{nearest(member, classes)}; it has: "
                    f"{', '.join(classes)}"
                )
    return sets
