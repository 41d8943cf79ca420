"""What each detector of a project left: its detections, times and bytes, for the comparison."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cache import Artifact, Store, digest_file
from cache.errors import StoreError
from cache.listing import summarise
from stages.contract import DetectorRun

from .detectors import Layout
from .graph import final_detections, nodes_of, object_lists, passed_nodes
from .params import load_params, own_groups, read_kind
from .timings import read_timings


def detector_runs(project: Path, names: Sequence[str], store: Store) -> list[DetectorRun]:
    """Return what these detectors' last runs left; StoreError naming a list that is not there."""
    lists = {name: _object_lists(Layout(project, name)) for name in names}
    nbytes = _bytes_of(store, lists)
    return [_detector_run(Layout(project, name), nbytes[name]) for name in names]


def _detector_run(layout: Layout, nbytes: int | None) -> DetectorRun:
    kind, params = read_kind(layout), load_params(layout)
    path = final_detections(layout.name)
    own = {one.name: one for one in kind.places}
    passed = passed_nodes(layout, params)
    others = {node: timing for of, node in passed if (timing := read_timings(of).get(node))}
    return DetectorRun(
        name=layout.name,
        kind=kind.name,
        detections=Artifact.read(layout.project / path),
        regions=Artifact.read(layout.project / nodes_of(layout, params)["evaluate"].inputs["proposals"]),
        timings=others | {name: timing for name, timing in read_timings(layout).items() if name in own},
        test_nodes=[node for _, node in passed],
        trained_nodes=[one.name for one in kind.places if one.stage.trained],
        disk_bytes=nbytes,
        parameters={group: params.groups.groups[group].model_dump(mode="json") for group in own_groups(kind)},
        digests={path: digest_file(layout.project / path)},
    )


def _object_lists(layout: Layout) -> list[Artifact]:
    """Read the lists of the objects that a detector's own nodes made, as far as they are there."""
    kind, nodes = read_kind(layout), nodes_of(layout, load_params(layout))
    paths = [layout.project / path for one in kind.places for path in nodes[one.name].outputs.values()]
    return [Artifact.read(path) for path in object_lists(paths)]


def _bytes_of(store: Store, lists: Mapping[str, Sequence[Artifact]]) -> dict[str, int | None]:
    """Add up what each detector's objects take on disk; None for all where the store cannot be listed."""
    try:
        found = summarise(store, [one for artifacts in lists.values() for one in artifacts])
    except (StoreError, OSError):
        return dict.fromkeys(lists)
    known = {usage.artifact.digest: usage.usage.nbytes for usage in found.artifacts}
    # detect's list is combine's, too, where nothing is combined
    return {name: sum(known[digest] for digest in {one.digest for one in made}) for name, made in lists.items()}
