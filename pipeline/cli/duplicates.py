"""``rcnn dataset duplicates``: near-duplicates within a dataset, or between two."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import numpy as np
from click.core import ParameterSource
from numpy.typing import NDArray

from cache import Store
from cache.cores import usable_cores
from cache.documents import json_text
from cache.outputs import OutputFolder
from cache.text import counted
from manifests import Dataset, DatasetError, ImageSource, ReadOptions, Registered, load_registered
from manifests.drop_list import read_ids
from manifests.readers.voc import read_flickr_ids
from pipeline.cli.types import GivenPath, Number
from pipeline.environments import Notice
from pipeline.executor import Executor, Tally
from pipeline.local import LocalRunner
from pipeline.params import ExecutionSettings, Params
from pipeline.progress import Reporter
from pipeline.workspace import open_params, open_store, untouchable
from stages.duplicates.descriptors import GistCompute, gist_tasks, listed, read_descriptors
from stages.duplicates.pairs import FoundPairs, Side, digests, equal_labels, ids_of, near_pairs, splits_of
from stages.duplicates.results import (
    JSON_FILE,
    LIST_FILE,
    SHEET_FILE,
    contact_sheet,
    document,
    drop_list,
    shown_pairs,
    table,
)
from stages.settings import TrainSettings

_ON_SHEET = 100  # pairs on a sheet at most: each is up to 343 px high, and many programs end at 65,535


@click.command()
@click.argument("a")
@click.argument("b", required=False)
@click.option(
    "--method",
    type=click.Choice(["sha256", "id", "gist"]),
    default="gist",
    help="What tells twins: the files' bytes; the same id (flickr's, or of --ids); what a picture looks like as a "
    "whole.",
)
@click.option("--out", type=GivenPath(file_okay=False, path_type=Path), required=True, help="Folder to write to.")
@click.option(
    "--ids",
    multiple=True,
    metavar="DATASET=FILE",
    help="Of --method id: a CSV with columns image and id, in place of the <flickrid> of VOC's annotations.",
)
@click.option(
    "--below",
    type=Number(0, 1),
    default=0.6,
    help="Of --method gist: mark pairs nearer than this share of the median of all images' nearest distances.",
)
@click.option(
    "--nearest", "count", type=click.IntRange(1, 100), default=1, help="Of --method gist: neighbours in each split."
)
@click.option("--top", type=click.IntRange(0, 100_000), default=30, help="Pairs to show, where fewer are marked.")
@click.pass_context
def duplicates(
    context: click.Context,
    a: str,
    b: str | None,
    method: str,
    out: Path,
    ids: tuple[str, ...],
    below: float,
    count: int,
    top: int,
) -> None:
    """Look for pictures that are twice in dataset A, or in A and in B.

    Writes to --out: duplicates.json, pairs ranked by distance; duplicates.png, the same pairs to look at; drop.txt, a
    list for manifest.drop_duplicates, which is yours to edit: nothing is left out before you name it there.
    """
    project: Path = context.obj
    _check_options(context, method)
    if a == b:
        raise DatasetError(f"B is {b}, as A is; leave it out to look for duplicates within {a}")
    found = [load_registered(name, project / "artifacts") for name in (a, b) if name is not None]
    outputs, log = OutputFolder(out, "give another folder by --out"), Reporter("duplicates")
    has_params = (project / "params.yaml").exists()
    outputs.check([JSON_FILE, LIST_FILE, SHEET_FILE], protected=untouchable(project) if has_params else {})
    if empty := [one.dataset.name for one in found if not one.dataset.images]:
        raise DatasetError(f"dataset {empty[0]}: has no images to compare; import some")
    trained = _trained_on(open_params(project), found[0].dataset) if has_params else ()
    looks = (open_store(project), open_params(project).execution) if method == "gist" else None
    sides = Side(a, found[0].dataset.images), Side(b or a, found[-1].dataset.images)
    splits = splits_of(sides[0].images), splits_of(sides[1].images)
    if looks is not None:
        outputs.prepare()  # a search may take hours; the other methods leave nothing of what they cannot do
        pairs = _near(*looks, found, splits, (below, count), log)
    else:
        labels = [digests(side.images) for side in sides] if method == "sha256" else _ids(found, ids)
        pairs = equal_labels(labels[0], labels[-1] if b else None, splits)
    made = {
        JSON_FILE: json_text(document(pairs, sides, method, below, top)).encode(),
        SHEET_FILE: _sheet(pairs, sides, found, top, log),
        LIST_FILE: drop_list(pairs, sides, trained).encode(),
    }
    outputs.prepare()
    for name, data in made.items():
        outputs.write(name, data)
    click.echo(_summary(pairs, sides, below, top))
    click.echo(f"written to {out}: {JSON_FILE}, {SHEET_FILE}, {LIST_FILE}", err=True)


def _check_options(context: click.Context, method: str) -> None:
    """Raise DatasetError for an option that is of another method."""
    of_method = {"ids": "id", "below": "gist", "count": "gist"}
    names = {"ids": "--ids", "below": "--below", "count": "--nearest"}
    given = [name for name in of_method if context.get_parameter_source(name) is not ParameterSource.DEFAULT]
    if wrong := [name for name in given if of_method[name] != method]:
        raise DatasetError(f"{names[name]} is for --method {of_method[name]}" for name in wrong)


def _trained_on(params: Params, dataset: Dataset) -> tuple[str, ...]:
    """Return the splits of a dataset that the project trains on; none where its parameters are of another dataset."""
    train = params.groups.of("manifest", TrainSettings).train
    named = (train,) if isinstance(train, str) else train
    return tuple(name for name in named if name in dataset.splits) if params.dataset == dataset.name else ()


def _near(
    store: Store,
    execution: ExecutionSettings,
    found: Sequence[Registered],
    splits: tuple[Sequence[str], Sequence[str]],
    how: tuple[float, int],
    log: Reporter,
) -> FoundPairs:
    """Describe what the store lacks, and search: A's descriptors in memory, the other dataset's block by block."""
    keys = []
    for one in found:
        source = ImageSource(one.source.root, name=one.dataset.name)
        runner = LocalRunner(execution.workers or usable_cores())
        executor = Executor(store, runner, log, Tally(), notice=Notice(store, log))
        keys.append(executor.compute(gist_tasks(one.dataset.images), GistCompute(source.read), unit="descriptors"))
        store.register(listed(one.dataset, keys[-1]))

    def others(numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        return read_descriptors(store, [keys[1][number] for number in numbers.tolist()])

    own = read_descriptors(store, keys[0], lambda done, total: log.progress(done, total, "descriptors read"))
    return near_pairs(
        own,
        others if len(found) == 2 else None,
        splits,
        below=how[0],
        count=how[1],
        told=lambda done, total: log.progress(done, total, "blocks searched"),
    )


def _ids(found: Sequence[Registered], given: Sequence[str]) -> list[list[str | None]]:
    """Return the ids of each dataset's images, and tell how many have none; DatasetError where all have none."""
    files = _files(given, [one.dataset.name for one in found])
    labels, problems, notes = [], list[str](), list[str]()
    for one in found:
        name = one.dataset.name
        try:
            ids = read_ids(files[name], one.dataset) if name in files else _flickr_ids(one)
        except DatasetError as error:
            problems += error.problems
            continue
        labels.append(ids_of(one.dataset.images, ids))
        without = labels[-1].count(None)
        if without == len(labels[-1]):
            problems.append(
                f"dataset {name}: none of its images has an id; give --ids {name}=FILE, a CSV with columns image and id"
            )
        elif without:
            notes.append(
                f"note: dataset {name}: {without} of {len(labels[-1])} images have no id and were not compared"
            )
    if problems:
        raise DatasetError(problems)
    for note in notes:
        click.echo(note, err=True)
    return labels


def _flickr_ids(one: Registered) -> Mapping[str, str]:
    """Read the ids of a dataset in VOC's form from where it was imported; none of any other."""
    if one.source.format != "voc" or one.source.path is None:
        return {}
    return read_flickr_ids(one.source.path, ReadOptions.from_json(one.source.options))


def _files(given: Sequence[str], names: Sequence[str]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for text in given:
        name, _, file = text.partition("=")
        if name not in names or not file or name in files:
            raise DatasetError(
                f"--ids {text}: write DATASET=FILE, the dataset one of {', '.join(names)}, each at most once"
            )
        files[name] = Path(file)
    return files


def _sheet(pairs: FoundPairs, sides: tuple[Side, Side], found: Sequence[Registered], top: int, log: Reporter) -> bytes:
    shown = shown_pairs(pairs, top)
    sources = [ImageSource(one.source.root, name=one.dataset.name) for one in found]
    classes = [one.dataset.classes for one in found]
    if len(shown) > _ON_SHEET:
        log.info(f"{SHEET_FILE} shows the first {_ON_SHEET} of {len(shown)} pairs; {JSON_FILE} lists all of these")
    return contact_sheet(
        shown[:_ON_SHEET],
        sides,
        (sources[0], sources[-1]),
        (classes[0], classes[-1]),
        lambda done, total: log.progress(done, total, "pairs drawn"),
    )


def _summary(pairs: FoundPairs, sides: tuple[Side, Side], below: float, top: int) -> str:
    marked = [pair for pair in pairs.pairs if pair.marked]
    across = [pair for pair in marked if sides[0].images[pair.a].split != sides[1].images[pair.b].split]
    lines = [table(pairs, sides, max(top, len(marked)))] if pairs.pairs else []
    what = f"{counted(len(marked), 'pair')} marked"
    if sides[0].name == sides[1].name:
        what += f", {len(across)} of them in two splits"
    if pairs.median is not None:
        what += f"; images' nearest distance: median {pairs.median:.3f}, marked up to {below * pairs.median:.3f}"
    return "\n".join([*lines, what])
