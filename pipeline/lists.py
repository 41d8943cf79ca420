"""What becomes of the lists of objects that a run claims and publishes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from cache import Artifact, Store
from stages.contract import Log

from .read_only import register_if_allowed


class Lists(Protocol):
    """Where a run's lists go; ``RunContext`` hands it each."""

    def claim(self, store: Store, coming: Artifact) -> None:
        """Take note of what is about to be computed. Raises StorePermissionError where it cannot be written down."""

    def publish(self, store: Store, artifact: Artifact, place: Callable[[], Path], *, computed: bool) -> None:
        """Take a list of results. ``place()`` is where its output is written; ``computed``: whether any is new."""


class NewLists:
    """Lists of a node's run: registered, so that gc spares their objects, and written as its outputs."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._claims: list[str] = []

    def claim(self, store: Store, coming: Artifact) -> None:
        """Register what is about to be computed, so that gc spares it for as long as the run takes.

        The claim of a killed run stays; the same run started again takes it over.
        """
        self._claims.append(store.register(coming.as_claim()))

    def publish(self, store: Store, artifact: Artifact, place: Callable[[], Path], *, computed: bool) -> None:
        """Register the list in place of the claims, and write it."""
        if computed:
            store.register(artifact)
        else:
            register_if_allowed(store, artifact, self._log)
        for claim in self._claims:
            store.unregister(claim)
        artifact.write(place())


class OtherResultError(Exception):
    """A node that was run again for its objects would now publish another list."""


class RecordedLists:
    """The lists of a node that is run for its objects alone: they are ``recorded`` already, and stay as they are."""

    def __init__(self, recorded: Sequence[Artifact]) -> None:
        self._recorded = recorded

    def claim(self, store: Store, coming: Artifact) -> None:
        """Claim nothing: the registered ``recorded`` protects these objects from gc, and a claim of a killed run would
        stay."""

    def publish(self, store: Store, artifact: Artifact, place: Callable[[], Path], *, computed: bool) -> None:
        """Check that the results are those recorded; OtherResultError where they are not."""
        if artifact not in self._recorded:
            raise OtherResultError
