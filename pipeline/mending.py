"""Damaged and missing objects that a stage meets are computed again, where that gives what was there.

An object of the stage's own: the stage is run again, which computes what the store lacks. An object of an earlier
node: that node is run for its objects alone, if its parameters and inputs are those that its artifact manifest
records. The manifest stays as it is, so that DVC sees no change.
"""

import time
from copy import copy
from dataclasses import dataclass

from cache import Artifact, CorruptObjectError, MissingObjectError, ObjectError, StorePermissionError
from cache.errors import StageError
from pipeline import timings
from stages.contract import Node
from stages.detections.saved import IMPORTED

from .context import RunContext
from .graph import is_object_list
from .lists import OtherResultError, RecordedLists
from .params import Params
from .read_only import lacks

_MANIFEST = "manifest"  # the output that lists a per-image stage's objects
_STATE = {CorruptObjectError: "was damaged and is in quarantine", MissingObjectError: "is gone"}
_MOST = 100  # objects that one run computes again; beyond that the disk is at fault


@dataclass
class Mending:
    """What one run may still mend, and the ``seconds`` that earlier stages took to fill their gaps."""

    params: Params
    left: int = _MOST
    seconds: float = 0.0

    def run(self, context: RunContext) -> None:
        """Run a node until it meets no damaged or missing object; raises the :class:`cache.ObjectError` that stays."""
        run = context.node.stage.load()
        while True:
            try:
                return run(context)
            except ObjectError as error:
                met = copy(error)  # without the traceback, which keeps all that the stage had in memory
            self._mend(context, met)
            context.begin_anew()

    def _mend(self, context: RunContext, met: ObjectError) -> None:
        if self.left == 0 or (isinstance(met, CorruptObjectError) and not met.quarantined):
            raise met
        self.left -= 1
        if context.store.has(met.stage, met.key):  # another process has just written it
            return
        what = f"{met.stage} object {met.key} {_STATE[type(met)]}"
        if met.stage == context.node.stage.name:
            context.log.warning(f"{what}; computing it again")
            return
        begin, before = time.monotonic(), self.seconds
        self._refill(context, met, what)
        self.seconds = before + time.monotonic() - begin  # refills within this one are part of it
        timings.reset_peak()

    def _refill(self, context: RunContext, met: ObjectError, what: str) -> None:
        """Run the node that made the object for what the store lacks of its results; raise ``met`` where it must not.

        Where all are gone nothing is damaged: a colleague has not pulled them, or this is another store. Hours of
        computing are then for the user to ask for.
        """
        maker = _maker(context, met.stage)
        if met.stage == IMPORTED:
            raise StageError(
                f"{what}; it is of another program's detections: `rcnn detections import` of the same file brings it"
            ) from met
        if maker is None:
            raise met
        lists = [Artifact.read(context.layout.project / path) for path in maker.outputs.values()]
        recorded = next((one for one in lists if met.key in one.keys.values()), None)
        if recorded is None:
            raise met
        refill = RunContext(maker, context.layout, self.params, context.nodes, RecordedLists(lists))
        store, keys = refill.store, set(recorded.keys.values())
        if refill.made(recorded.entries, recorded.summary) != recorded:  # running would give others
            raise met
        if not isinstance(met, CorruptObjectError) and store.missing(met.stage, keys) == keys:
            raise met
        context.log.warning(
            f"{what}; computing again what the store lacks of {maker.name}, whose parameters and inputs are unchanged"
        )
        try:
            store.register(recorded)
        except StorePermissionError as refused:
            raise lacks(store, maker.name, len(store.missing(maker.name, keys))) from refused
        try:
            self.run(refill)
        except OtherResultError:
            raise met from None


def _maker(context: RunContext, stage: str) -> Node | None:
    """Find the node of that stage, if it makes objects and nothing else, and ``context``'s node reads a list of its.

    Or the list of a node between, which may hand on the objects that it was given (``combine``).
    """
    reader, nodes = context.node, context.nodes.values()
    between = [one for one in nodes if one.outputs.get(_MANIFEST) in reader.inputs.values()]
    for node in nodes:
        made = list(node.outputs.values())
        is_read = any(path in one.inputs.values() for path in made for one in (reader, *between))
        if node.stage.name == stage and is_read and all(is_object_list(path) for path in made):
            return node
    return None
