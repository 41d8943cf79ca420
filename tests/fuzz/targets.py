"""Every reader of files that others may have written, as a function of bytes that lets through only clear errors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mutations import Tree


@dataclass(frozen=True)
class Target:
    """One reader. ``prepare`` lays out a folder and returns the reader as a function of the fuzzed file's bytes.

    The function returns for every input that is read, or refused by one of the package's user errors; any other
    exception is a fault. ``seeds`` are valid files, and hostile ones that mutation would not find.
    """

    name: str
    prepare: Callable[[Path], Callable[[bytes], None]]
    seeds: Callable[[], Sequence[bytes]]
    tokens: tuple[bytes, ...] = ()
    tree: Tree | None = None


def tolerant(read: Callable[[bytes], object]) -> Callable[[bytes], None]:
    """``read`` with the errors that a user is shown as one line: those, and no other, are an answer to bad bytes."""
    from cache.errors import USER_ERRORS

    def run(data: bytes) -> None:
        try:
            read(data)
        except USER_ERRORS as error:
            assert str(error).strip(), f"{type(error).__name__} says nothing"

    return run


def all_targets() -> dict[str, Target]:
    """Every target by name."""
    from dataset_targets import DATASET_TARGETS
    from model_targets import MODEL_TARGETS
    from project_targets import PROJECT_TARGETS
    from store_targets import STORE_TARGETS
    from weights_targets import WEIGHTS_TARGETS

    targets = [*DATASET_TARGETS, *STORE_TARGETS, *MODEL_TARGETS, *WEIGHTS_TARGETS, *PROJECT_TARGETS]
    return {target.name: target for target in targets}
