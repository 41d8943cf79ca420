"""``rcnn dataset``: import, refresh, split and show datasets."""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from cache.outputs import OutputFolder
from cache.text import format_table
from manifests import (
    DatasetError,
    ImageSource,
    ReadOptions,
    Registered,
    import_dataset,
    load_registered,
    registered_names,
)
from manifests import refresh as refresh_dataset
from manifests.describe import contact_sheet, describe, shown_on_sheet
from manifests.fonts import note_of_missing
from manifests.halves import best_halves, class_counts, halves_table, why_no_split
from manifests.names import shown_names
from manifests.readers.options import DEFAULT_FRACTIONS, STUFF
from manifests.registry import check_name, put_into_halves
from manifests.scenes.dataset import NAME as BUILT_IN
from manifests.source import HalvedSplit
from manifests.text import as_yaml
from pipeline.cli.types import GivenPath, Number
from pipeline.progress import Reporter
from pipeline.workspace import untouchable

from .duplicates import duplicates

Decorator = Callable[[Callable[..., None]], Callable[..., None]]

_NAMED = 20  # classes named after an import; a misspelt one shows


@click.group()
def dataset() -> None:
    """Import, check and show datasets."""


dataset.add_command(duplicates)


@dataset.group("import")
def import_group() -> None:
    """Check a dataset and register it under a name; PATH is only read, never written to."""


def _import_command(source_format: str, text: str, leave_out: Iterable[str] = (), *own: Decorator) -> None:
    """Add ``rcnn dataset import FORMAT``: the options of all formats but those left out, and its ``own``."""

    @import_group.command(source_format, help=text)
    @click.argument("path", type=GivenPath(path_type=Path), required=source_format != "voc")
    @_options(leave_out, own)
    @click.pass_obj
    def command(project: Path, /, path: Path | None, name: str, **options: Any) -> None:
        read = ReadOptions(
            classes=_names(options["classes"]),
            on_error=options["on_error"],
            images=_folder(options.get("images")),
            annotations=_folder(options.get("annotations")),
            fractions=_fractions(options.get("test_fraction", DEFAULT_FRACTIONS["test"])),
            seed=options.get("seed", ReadOptions.seed),
            tolerance_px=options.get("tolerance_px", ReadOptions.tolerance_px),
            per_class=options.get("per_class"),
            unannotated=_names(options.get("unannotated")) or (),
            ignore_annotations=options.get("ignore_annotations", False),
            devkit=_folder(options.get("devkit")),
            in_part=_names(options.get("in_part")) or (),
            segmentation=options.get("segmentation", False),
            masks=_folder(options.get("masks")),
            voc=_folder(options.get("voc")),
            void=_void(options.get("void", "255")),
            shift=options.get("shift", 0),
            background=not options.get("no_background", False),
            stuff=options.get("stuff", ReadOptions.stuff),
            min_pixels=options.get("min_pixels", 0),
        )
        if name == BUILT_IN:
            raise DatasetError(f"--name {name}: that is the built-in dataset's name; choose another")
        if path is None:
            if read.images is None or read.annotations is None:
                raise click.UsageError("give PATH, or the folders of both by --images and --annotations")
            path = Path(read.images)
        _say(import_dataset(source_format, path, name, read, project / "artifacts"))


def _names(text: str | None) -> tuple[str, ...] | None:
    """Names from ``dog, "cat, small"``: spaces around a name are none of it, quotes hold a comma."""
    if not text:
        return None
    names = [name.strip() for row in csv.reader([text], skipinitialspace=True) for name in row]
    while names and not names[-1]:
        names.pop()
    if "" in names:  # where they number YOLO's classes, all after it would have other numbers
        raise click.BadParameter(
            f"{text!r} has nothing before comma {names.index('') + 1}; put a name there, or drop the comma"
        )
    return tuple(names)


def _void(text: str) -> int | None:
    """The value of ``--void``, None for ``none``."""
    if text.lower() == "none":
        return None
    if not text.isdecimal():
        raise click.BadParameter(f"{text!r} is not a value from 0 to 255, nor none", param_hint="--void")
    return int(text)


def _folder(path: Path | None) -> str | None:
    return None if path is None else str(path.resolve())


def _options(leave_out: Iterable[str], own: Iterable[Decorator]) -> Decorator:
    """The options of an import: those of all formats without the ones named, then the format's own."""
    shared = [option for name, option in _SHARED.items() if name not in leave_out]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in (*own, *shared):
            command = option(command)
        return command

    return decorate


_SHARED: Mapping[str, Decorator] = {
    "--tolerance-px": click.option(
        "--tolerance-px", type=Number(), default=2.0, help="A box may stick out by so much; it is then clipped."
    ),
    "--seed": click.option("--seed", type=int, default=0, help="Of the split, where the source has none."),
    "--test-fraction": click.option(
        "--test-fraction",
        type=Number(0, 1),
        default=DEFAULT_FRACTIONS["test"],
        help="Share of test images, where the source has no splits.",
    ),
    "--images": click.option(
        "--images", type=GivenPath(path_type=Path), help="Folder of the images, if not in a usual place."
    ),
    "--ignore-annotations": click.option(
        "--ignore-annotations", is_flag=True, help="Leave out what is annotated in the splits of --unannotated."
    ),
    "--unannotated": click.option(
        "--unannotated", metavar="SPLITS", help="Comma-separated: splits to test on that nobody has annotated."
    ),
    "--in-part": click.option(
        "--in-part", metavar="SPLITS", help="Comma-separated: splits whose images show more than is annotated."
    ),
    "--classes": click.option("--classes", help="Comma-separated: the classes to expect; any other is a problem."),
    "--on-error": click.option(
        "--on-error",
        type=click.Choice(["stop", "skip"]),
        default="stop",
        help="stop: list every problem, register nothing. skip: leave out just the bad boxes and images.",
    ),
    "--name": click.option("--name", required=True, help="What to call it: `dataset` in params.yaml."),
}


_import_command(
    "voc",
    "PATH: a VOC devkit, its VOC2007 folder, or any folder with Annotations/ and JPEGImages/, or with pictures and XML "
    "files of their names; none with --images and --annotations.",
    (),
    click.option("--annotations", type=GivenPath(path_type=Path), help="Folder of the XML files, beside --images."),
    click.option(
        "--segmentation",
        is_flag=True,
        help="Take SegmentationClass/, SegmentationObject/ and the lists of ImageSets/Segmentation, too.",
    ),
)
_import_command(
    "coco",
    "PATH: a COCO instances JSON.",
    (),
    click.option("--segmentation", is_flag=True, help="Take polygons and run lengths as masks; crowds are void."),
)
_import_command("yolo", "PATH: a data.yaml, darknet's obj.data, or a folder with images/ and labels/.", ("--images",))
_import_command(
    "ilsvrc",
    "PATH: ILSVRC's detection data, of 2013 (ILSVRC2013_DET_*, devkit) or later (Data/, Annotations/, ImageSets/).",
    ("--images", "--ignore-annotations", "--seed", "--test-fraction"),  # its lists split it
    click.option("--devkit", type=GivenPath(path_type=Path), help="Folder with meta_det.mat, if it is not below PATH."),
)
_import_command(
    "folders",
    "PATH: a tree of class folders, train/CLASS/*.jpg or CLASS/*.jpg, or a zip archive of one; for classification.",
    ("--tolerance-px", "--images", "--unannotated", "--ignore-annotations", "--in-part"),
    click.option("--per-class", type=click.IntRange(min=1), help="Take so many of each class and split, by the seed."),
)
_MASKS = click.option("--masks", type=GivenPath(path_type=Path), help="Folder of the masks, if not in a usual place.")
_import_command(
    "panoptic",
    "PATH: a COCO panoptic JSON, or the folder that holds it; its boxes are those of the masks.",
    ("--unannotated", "--ignore-annotations"),
    _MASKS,
    click.option(
        "--stuff",
        type=click.Choice(STUFF),
        default="background",
        help="What becomes of stuff: background, void (in no count), or a class like any other.",
    ),
    click.option(
        "--min-pixels", type=click.IntRange(min=0), default=0, help="Things of fewer pixels are void, and difficult."
    ),
)
_import_command(
    "sbd",
    "PATH: the Semantic Boundaries Dataset, the folder of its img/, inst/ and lists; its boxes are those of the masks.",
    ("--unannotated", "--ignore-annotations", "--seed", "--test-fraction"),  # its lists split it
    click.option(
        "--voc", type=GivenPath(path_type=Path), help="VOC: its masks win, its val images are not trained on."
    ),
)
_import_command(
    "masks",
    "PATH: a folder of images/, masks/ (PNG of the same names, whose values are classes), names.txt (a class a line, "
    "the first being value 0, the background; or VALUE: NAME) and, if there are any, object maps in objects/.",
    ("--unannotated", "--ignore-annotations"),
    _MASKS,
    click.option("--void", default="255", show_default=True, help="The value that is in no count, or none."),
    click.option("--shift", type=int, default=0, help="Value v is that of v + SHIFT in names.txt (COCO-Stuff: 1)."),
    click.option("--no-background", is_flag=True, help="0 in names.txt is a class, and no background."),
)


@dataset.command()
@click.argument("name")
@click.pass_obj
def refresh(project: Path, name: str) -> None:
    """Read dataset NAME again from where it was imported, with the same options."""
    _say(refresh_dataset(name, project / "artifacts"))


@dataset.command()
@click.argument("name")
@click.option("--halves", nargs=2, required=True, metavar="A B", help="What to call the two splits: val1 val2.")
@click.option("--of", "split", help="Halve the images of this split alone.  [default: all images]")
@click.option(
    "--trials", type=click.IntRange(1, 10_000), default=10, show_default=True, help="Take the best of so many."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the random orders and coins.")
@click.option(
    "--odd",
    type=click.Choice(["once", "twice"]),
    default="once",
    show_default=True,
    help="Put the last image of an odd number into one half (ours), or into both (the authors' code).",
)
@click.option("--name", "new_name", help="Register the result as another dataset.  [default: NAME itself]")
@click.pass_obj
def split(
    project: Path,
    name: str,
    halves: tuple[str, str],
    split: str | None,
    trials: int,
    seed: int,
    odd: str,
    new_name: str | None,
) -> None:
    """Split the images of dataset NAME into two halves that show each class about as often (docs/ilsvrc.md).

    Prints each class's objects in both and its imbalance |a - b| / (a + b). The halves are further splits: the images
    stay in those that they are in.
    """
    artifacts = project / "artifacts"
    found = load_registered(name, artifacts)
    _check_halves(found, halves, new_name, registered_names(artifacts))
    images = list(found.dataset.images) if split is None else found.dataset.split(split)
    if len(images) < 2:
        raise DatasetError(f"dataset {name}: {len(images)} images cannot be halved; name another split by --of")
    counts = class_counts(images, found.dataset)
    rng = np.random.default_rng(np.random.SeedSequence([seed]))
    log = Reporter("split")
    best = best_halves(
        counts,
        trials,
        rng,
        odd_twice=odd == "twice",
        told=lambda done, total: log.progress(done, total, "trials"),
    )
    members = tuple(frozenset(image.id for image, one in zip(images, side, strict=True) if one) for side in best.sides)
    put_into_halves(name, new_name or name, HalvedSplit(halves, split), (members[0], members[1]), artifacts)
    click.echo(halves_table(best, counts, found.dataset.classes, halves))
    if best.both is not None:
        click.echo(
            f"{images[best.both].file_name} is in both halves, as by the authors' code; a run that trains on one and "
            "tests on the other refuses it: --odd once puts it into one",
            err=True,
        )


def _check_halves(found: Registered, halves: tuple[str, str], new_name: str | None, there: Sequence[str]) -> None:
    """Raise DatasetError, with all problems, where the halves cannot be called so or would not stay."""
    name, splits = found.dataset.name, found.dataset.splits
    problems = [f"--halves {half}: {why}" for half in halves if (why := why_no_split(half))]
    problems += [
        f"--halves {half}: dataset {name} has a split of this name already; give another"
        for half in halves
        if half in splits
    ]
    if halves[0] == halves[1]:
        problems.append(f"--halves: both are called {halves[0]}; give two names")
    if new_name is None and found.source.path is None:
        problems.append(
            f"dataset {name}: is made by the pipeline ({found.source.format}), which would drop the halves; "
            "register them as another dataset by --name"
        )
    if new_name is not None:
        check_name(new_name)
        if new_name in there:
            problems.append(f"--name {new_name}: a dataset of this name is registered already; give another")
    if problems:
        raise DatasetError(problems)


@dataset.command("ls")
@click.pass_obj
def list_datasets(project: Path) -> None:
    """The registered datasets."""
    rows = []
    for name in registered_names(project / "artifacts"):
        found = load_registered(name, project / "artifacts")
        source = str(found.source.path or found.source.format)
        rows.append((name, len(found.dataset.images), len(found.dataset.classes), source))
    click.echo(format_table(("dataset", "images", "classes", "from"), rows, right=(1, 2)))


@dataset.command()
@click.argument("name")
@click.option(
    "--sheet",
    type=GivenPath(dir_okay=False, path_type=Path),
    help="Where to write the contact sheet (PNG).  [default: reports/dataset-NAME.png]",
)
@click.option("--force", is_flag=True, help="Replace a file at --sheet that is there, though it is no sheet of ours.")
@click.option("--count", type=click.IntRange(1, 400), default=16, help="Images on the sheet.")
@click.option("--split", help="Only images of this split on the sheet.")
@click.pass_obj
def show(project: Path, name: str, sheet: Path | None, force: bool, count: int, split: str | None) -> None:
    """Counts per class and split, of pixels too where there are masks, box sizes, notes, and a contact sheet."""
    found = load_registered(name, project / "artifacts")
    path = sheet or project / "reports" / f"dataset-{name}.png"
    # of our own name in our own folder it may be replaced
    outputs = OutputFolder(
        path.parent,
        "give another file by --sheet, or --force to replace it",
        force=force or not sheet,
        elsewhere="give a file in another folder by --sheet",
    )
    outputs.check([path.name], protected=untouchable(project))
    source = ImageSource(found.source.root, name=name, masks=found.source.masks)
    click.echo(describe(found.dataset, source))
    for note in found.source.notes:
        click.echo(f"note: {note}")
    shown = shown_on_sheet(found.dataset, count, split)
    if missing := note_of_missing([*found.dataset.classes, *(image.file_name for image in shown)]):
        click.echo(f"note: {missing}", err=True)
    drawn = contact_sheet(found.dataset, source, n=count, split=split)
    outputs.prepare()
    outputs.write(path.name, drawn)
    click.echo(f"contact sheet: {path}")


def _fractions(test: float) -> dict[str, float]:
    return {"train": 1.0 - test, "test": test}


def _say(found: Registered) -> None:
    for note in found.source.notes:
        click.echo(f"note: {note}", err=True)
    data = found.dataset
    splits = ", ".join(f"{split}: {len(data.split(split))}" for split in data.splits)
    classes = shown_names(data.classes[:_NAMED]) + (", …" if len(data.classes) > _NAMED else "")
    click.echo(f"{data.name}: {len(data.images)} images ({splits}), {len(data.classes)} classes ({classes})")
    then = (
        f"`rcnn params init --dataset {data.name} --network alexnet --weights IMAGENET1K_V1` (docs/own-data.md), then "
        "`dvc repro report`"
        if data.has_boxes
        else f"`dataset: {as_yaml(data.name)}` in params.yaml, then `dvc repro classification/dvc.yaml`"
    )
    click.echo(f"next: {then}", err=True)
