"""``rcnn diagnose``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from cache.documents import json_text
from cache.errors import ParamsError, StageError
from cache.outputs import OutputFolder
from cache.text import nearest
from manifests import load_registered
from pipeline.cli.types import GivenPath, Number
from pipeline.workspace import untouchable
from stages.diagnosis.document import diagnosed, nothing_annotated
from stages.diagnosis.page import page
from stages.diagnosis.settings import DiagnoseSettings
from stages.diagnosis.similar import Sets, named_sets
from stages.diagnosis.table import Table, object_rows, read_table
from stages.scoring.files import WITH_BBOX
from stages.scoring.results import READERS

_PAGE, _FIGURES = "diagnosis.html", "diagnosis.json"
_DEFAULT = DiagnoseSettings()
_NAMED: dict[str, str | Sets] = {"voc": "voc", "coco": "coco", "none": ()}  # what ``--similar`` has a word for


@click.command()
@click.option(
    "--detections",
    "path",
    type=GivenPath(path_type=Path),
    required=True,
    metavar="FILE|FOLDER",
    help="COCO's results JSON, or a folder of VOC's comp4_det_test_CLASS.txt.",
)
@click.option("--dataset", "name", required=True, metavar="NAME", help="The registered dataset that was searched.")
@click.option("--split", default="test", help="The split of it that was searched.")
@click.option("--out", type=GivenPath(file_okay=False, path_type=Path), required=True, help="Folder to write to.")
@click.option("--iou", type=Number(0.1, 1, min_open=True), default=_DEFAULT.iou, help="Least IoU to be right.")
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
    help="Which classes are similar; give the last form once for each set.  [default: voc or coco, by the "
    "dataset's names]",
)
@click.option("--background-twice", is_flag=True, help="Count background as the authors' program does.")
@click.option(
    "--normal-share",
    type=Number(0, 1_000_000, min_open=True),
    help="Objects that a class's precision is normalised to, as a part of the number of images.  "
    f"[default: {_DEFAULT.normal_share}]",
)
@click.option(
    "--normal-objects",
    type=Number(0, 1_000_000_000, min_open=True),
    help="That number itself, in place of --normal-share.",
)
@click.option(
    "--max-classes",
    type=click.IntRange(1, 1000),
    default=_DEFAULT.max_classes,
    help="Classes shown one by one, those with most objects; the JSON has all.",
)
@click.option(
    "--characteristics",
    "table",
    type=GivenPath(path_type=Path),
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
    settings = _settings(options, dataset.classes)
    told = Table({}) if table is None else read_table(table, object_rows(dataset, tested, dataset.classes))
    read = READERS[_form(path)](path, dataset, split, clip=clip)
    title = f"{path.name} on {name}"
    chosen = () if options["similar"] else (_told(settings.similar_classes),)
    found, said = {WITH_BBOX: read.detections}, (*chosen, *told.notes, *read.notes)
    made = diagnosed(title, tested, dataset.classes, found, told.values, settings, said)
    outputs.prepare()
    outputs.write(_FIGURES, json_text(made.document()).encode())
    outputs.write(_PAGE, page(made).encode())
    for note in made.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(f"{out / _PAGE}: {made.summary()}")


def _form(path: Path) -> str:
    """Return the form of a file or folder of results."""
    if path.suffix == ".txt":
        raise ParamsError(f"--detections {path}: of comp4 files give the folder, which has one for each class")
    return "voc" if path.is_dir() else "coco"


def _settings(options: Mapping[str, Any], classes: tuple[str, ...]) -> DiagnoseSettings:
    """Return the parameters that the options give; ParamsError where two say the same."""
    if options["normal_share"] is not None and options["normal_objects"] is not None:
        raise ParamsError("--normal-share and --normal-objects: give one of the two")
    given = {name: options[name] for name in ("iou", "matching", "background_twice", "max_classes")}
    given |= {name: options[name] for name in ("normal_share", "normal_objects") if options[name] is not None}
    return DiagnoseSettings(similar_classes=_sets(options["similar"], classes), **given)


def _sets(given: tuple[str, ...], classes: tuple[str, ...]) -> Any:
    """Return what ``--similar`` says, or the dataset's names do where it is not given.

    Raises ParamsError for a class that the dataset lacks, since somebody typed it, and a word beside other sets.
    """
    if not given:
        return named_sets(classes)
    if len(given) == 1 and given[0] in _NAMED:
        return _NAMED[given[0]]
    if any(text in _NAMED for text in given):
        raise ParamsError(f"--similar {' '.join(given)}: voc, coco and none stand alone; give one of them, or lists")
    sets = tuple(tuple(dict.fromkeys(one.strip() for one in text.split(","))) for text in given)
    if unknown := dict.fromkeys(member for one in sets for member in one if member not in classes):
        there = ", ".join(classes)
        raise ParamsError(
            "\n".join(
                f"--similar: class {member!r} is none of the dataset's{nearest(member, classes)}; it has: {there}"
                for member in unknown
            )
        )
    if alone := [members[0] for members in sets if len(members) < 2]:
        raise ParamsError(f"--similar {alone[0]}: is a set of one class; name two or more with commas between")
    return sets


def _told(chosen: str | Sets) -> str:
    """Say which sets of similar classes the dataset's names chose."""
    if isinstance(chosen, str):
        return f"similar classes are {chosen}'s, by the dataset's names; --similar gives others"
    return "no classes are similar, since few names are VOC's or COCO's; --similar gives sets"
