"""Copy what artifact manifests name from one store to another: in parallel, checked, and resumable.

An object is checked where it is read, and the receiving store writes it whole or not at all; so a copy that is cut off
goes on where it was when it is started again, and a damaged object never spreads.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice

from .artifact import Artifact
from .errors import CorruptObjectError, MissingObjectError
from .store import Store

CopyProgress = Callable[[int, int, int], None]  # (done, total, bytes so far)


@dataclass(frozen=True)
class Transfer:
    """Outcome of a copy: what was copied, how many objects were there already, and what could not be, one line each."""

    copied: int
    nbytes: int
    present: int
    problems: tuple[str, ...]


def copy(
    source: Store, target: Store, artifacts: Iterable[Artifact], workers: int, progress: CopyProgress | None = None
) -> Transfer:
    """Copy the artifacts' objects that ``target`` lacks, then register the artifacts whose objects it all has.

    An object that ``source`` lacks, or that is damaged there, is a problem of its own and stops nothing. Anything else
    (no space, no connection, no permission) raises StoreError; what was copied until then stays, and gc spares it.
    """
    artifacts = list(artifacts)
    keys: dict[str, set[str]] = {}
    for artifact in artifacts:
        keys.setdefault(artifact.stage, set()).update(artifact.keys.values())
    claims = [target.register(artifact.as_claim()) for artifact in artifacts]
    lacking = {(stage, key) for stage, named in keys.items() for key in target.missing(stage, named)}
    n_present = sum(map(len, keys.values())) - len(lacking)
    failed: dict[tuple[str, str], str] = {}
    copied = nbytes = 0

    def one(stage: str, key: str) -> int | str:
        try:
            files = source.export(stage, key)
        except (MissingObjectError, CorruptObjectError) as error:
            return str(error)
        target.take_in(stage, key, files)
        return sum(map(len, files.values()))

    for (stage, key), result in _in_threads(one, sorted(lacking), workers):
        if isinstance(result, str):
            failed[stage, key] = result
        else:
            copied, nbytes = copied + 1, nbytes + result
        if progress is not None:
            progress(copied + len(failed), len(lacking), nbytes)
    for artifact in artifacts:
        if not any((artifact.stage, key) in failed for key in artifact.keys.values()):
            target.register(artifact)
    for claim in claims:  # those of a copy that is cut off stay: started again, it takes them over
        target.unregister(claim)
    return Transfer(copied, nbytes, n_present, tuple(failed[name] for name in sorted(failed)))


def _in_threads(
    one: Callable[[str, str], int | str], names: Iterable[tuple[str, str]], workers: int
) -> Iterable[tuple[tuple[str, str], int | str]]:
    """Yield results as they come; no more than two per thread wait, so that memory does not grow with their number."""
    left = iter(names)
    running: dict[Future[int | str], tuple[str, str]] = {}
    with ThreadPoolExecutor(workers, thread_name_prefix="copy") as pool:
        try:
            while True:
                running |= {pool.submit(one, *name): name for name in islice(left, 2 * workers - len(running))}
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        finally:
            for future in running:
                future.cancel()
