"""Take the power away at every file-system call of every stage, and look at what may be left on the disk.

    python tests/faults/power_loss.py --states 40 --reruns 10 --seed 0 [STAGE...]

STAGE is one of R-CNN's or of classification/dvc.yaml, or one of another detector of the tiny project: steps/rpn_1.

Each stage of a tiny project is run once with all its file-system calls recorded. For every beginning of the record, the
states that the disk may be in (crash_disk.py; up to about twice ``--states`` of each) are checked; of all of a stage's
states, ``--reruns`` are put on a disk and the stage is run again, which must end with the undisturbed run's results.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]

from crash_disk import Disk, State, read_record, write_state  # noqa: E402
from tiny_project import (  # noqa: E402
    ALL_STAGE_NAMES,
    CLASSIFICATION_STAGE_NAMES,
    CLASSIFYING,
    COMBINING,
    HEAD_NAMES,
    REGION_KINDS,
    REGION_STAGES,
    SEGMENTATION_STAGE_NAMES,
    STAGE_NAMES,
    StageServer,
    combine_with_itself,
    forget,
    make_classifying,
    make_project,
    make_regions,
    node_of,
    region_nodes,
    results,
    run_of,
)

from cache import Store  # noqa: E402
from cache.listing import entries  # noqa: E402

_OUTPUT_FOLDERS = ("artifacts/datasets/scenes", "reports/results")


@dataclass
class Counts:
    """How much was looked at."""

    calls: int = 0
    states: int = 0
    reruns: int = 0


def check_stage(
    server: StageServer, finished: Path, stage: str, scratch: Path, states: int, reruns: int, rng: random.Random
) -> Counts:
    """Lose power at every call of ``stage``, run in a copy of a finished project that has forgotten it.

    AssertionError, saying what was found, if a promise is broken.
    """
    project, expected = scratch / "project", results(finished)
    shutil.copytree(finished, project)
    for copied in _copies(project, stage):
        (project / copied).unlink()
        del expected[copied]
    forget(project, stage)
    disk = Disk(project)
    done = server.run(project, *run_of(stage), root=project, record=scratch / "record")
    assert done.status == 0, done.said
    record = read_record(scratch / "record")
    counts = Counts(len(record))
    kept: list[State] = []
    for number, (call, paths, data) in enumerate(record):
        disk.apply(call, paths, data)
        for state in disk.states(rng, states):
            counts.states += 1
            problems = wrong_in(state)
            assert not problems, f"power lost after call {number} ({call} {paths}) of {stage}: {problems[0]}"
            # every state seen so far is kept with the same probability
            place = counts.states - 1 if counts.states <= reruns else rng.randrange(counts.states)
            if place < reruns:
                kept[place:] = [state, *kept[place + 1 :]]
    assert disk.files() == Disk(project).files(), "the record does not tell all that happened"
    nothing_more = next(disk.states(rng, 1))
    lost = [name for name in expected if name not in nothing_more]
    assert not lost, f"{stage} said that it was done, and these could be gone: {lost}"
    for number, state in enumerate(kept):
        _rerun(server, state, stage, scratch / f"state{number}", expected)
        counts.reruns += 1
    shutil.rmtree(project)
    return counts


def _copies(project: Path, stage: str) -> list[str]:
    """The files that are a stage's list under another name: a later stage has handed it on (combine, roi_detect's)."""
    own = [path for path in node_of(stage).outputs.values() if path.endswith("/manifest.json")]
    lists = [path.relative_to(project).as_posix() for path in project.glob("artifacts/**/manifest.json")]
    meant = {(project / path).read_bytes() for path in own}
    return [path for path in lists if path not in own and (project / path).read_bytes() in meant]


def wrong_in(state: State) -> list[str]:
    """What breaks a promise in a state of the disk, one line each."""
    problems = []
    names = _names(state)
    for path, (node, content) in state.items():
        if is_temporary(path):
            continue
        if not node.is_dir and content != node.meant:
            problems.append(f"{path} holds {len(content)} bytes, not what was meant")
        elif node.is_dir and _one_thing(path):
            below, meant = frozenset(names.get(path, ())), node.meant
            assert not isinstance(meant, bytes)  # a folder's are names
            if below != meant:
                problems.append(f"{path} lacks {sorted((meant or frozenset()) - below)}")
        if path.endswith(("/manifest.json", "/trained.json")) or path.startswith("artifacts/refs/"):
            problems += [f"{path} names {key}, which is not there" for key in _absent(state, content)]
    return problems


def is_temporary(path: str) -> bool:
    """Whether a path names something unfinished, which nothing reads."""
    parts = path.split("/")
    return ".partial" in parts or parts[:2] == ["artifacts", "tmp"] or parts[-1].endswith((".partial", ".tmp"))


def _one_thing(path: str) -> bool:
    """Whether a folder lies in, or is, one that appears as a whole: an object or an output."""
    parts = path.split("/")
    if parts[:2] == ["artifacts", "objects"]:
        return len(parts) >= 5
    return path.startswith(_OUTPUT_FOLDERS)


def _names(state: State) -> dict[str, set[str]]:
    """Return the names of the entries of each folder that has any."""
    names: dict[str, set[str]] = {}
    for path in state:
        parent, _, name = path.rpartition("/")
        names.setdefault(parent, set()).add(name)
    return names


def _absent(state: State, manifest: bytes) -> list[str]:
    """The keys in an artifact manifest that have no object; that of a run in progress may name some."""
    found = json.loads(manifest)
    if found.get("summary", {}).get("unfinished"):
        return []
    keys = [key for _, key in found.get("entries", ())]
    return [key for key in keys if f"artifacts/objects/{found['stage']}/{key[:2]}/{key}/object.json" not in state]


def _rerun(server: StageServer, state: State, stage: str, project: Path, expected: dict[str, str]) -> None:
    write_state(state, project)
    store = Store(project / "artifacts")
    for entry in entries(store):
        assert not store.has(entry.kind, entry.key) or store.check(entry.kind, entry.key) == []
    done = server.run(project, *run_of(stage))
    assert done.status == 0, done.said
    found = {name: digest for name, digest in results(project).items() if not is_temporary(name)}
    differing = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    assert not differing, f"run again after a power loss, {stage} ended with other results: {differing}"
    shutil.rmtree(project)


def _run(server: StageServer, project: Path, stages: tuple[str, ...]) -> None:
    done = server.run(project, *run_of(*stages))
    assert done.status == 0, done.said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", default=(*ALL_STAGE_NAMES, *REGION_STAGES), metavar="STAGE")
    parser.add_argument("--states", type=int, default=40)
    parser.add_argument("--reruns", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, begin, server = random.Random(options.seed), time.monotonic(), StageServer()
    with tempfile.TemporaryDirectory(prefix="rcnn-power-") as name:
        finished = make_project(Path(name) / "finished")
        _run(server, finished, STAGE_NAMES)
        combine_with_itself(finished)
        _run(server, finished, COMBINING)
        _run(server, finished, SEGMENTATION_STAGE_NAMES)
        classified = make_classifying(Path(name) / "classified")
        _run(server, classified, CLASSIFYING)
        regions = make_regions(Path(name) / "regions")
        for step in (HEAD_NAMES, *map(region_nodes, REGION_KINDS)):
            _run(server, regions, step)
        total = Counts()
        for stage in options.stages:
            scratch = Path(name) / "at" / stage
            scratch.mkdir(parents=True)
            whole = regions if "/" in stage else classified if stage in CLASSIFICATION_STAGE_NAMES else finished
            counts = check_stage(server, whole, stage, scratch, options.states, options.reruns, rng)
            print(f"{stage:12} {counts.calls} calls, {counts.states} states, {counts.reruns} run again", flush=True)
            total = Counts(*(getattr(total, f) + getattr(counts, f) for f in ("calls", "states", "reruns")))
    server.close()
    seconds = time.monotonic() - begin
    print(f"{total.calls} calls, {total.states} states checked, {total.reruns} run again, {seconds:.0f} s")


if __name__ == "__main__":
    main()
