"""Which environment a run computes in, and what a user is told of objects that another one computed."""

from collections.abc import Iterable
from functools import cache

from cache import Store
from cache.environment import ABSENT, Environment, present
from cache.listing import environments
from stages.contract import Log

_DEVICE = "device"


@cache
def environment_here(device: str | None) -> Environment:
    """This process's environment, ``device`` being ``execution.device`` where a network runs, and None elsewhere."""
    if device is None:
        return present()
    from stages.networks.forward import device_name  # torch takes a second to import

    return present(device_name(device))


class Notice:
    """Tells, once for each stage, of the objects a run meets that another environment computed than its own."""

    def __init__(self, store: Store, log: Log) -> None:
        self._store, self._log = store, log
        self._told: set[str] = set()

    def met(self, stage: str, keys: Iterable[str], here: Environment | None = None) -> None:
        """Look at the objects and say in one line how many are of other environments, and in what those differ.

        ``here``: what would compute them now; None where that is not known, as of an earlier stage's objects: then
        versions alone count, not the device.
        """
        keys = list(keys)
        if stage in self._told or not keys:
            return
        self._told.add(stage)
        own, ignored = (present(), {_DEVICE}) if here is None else (here, set[str]())
        found = environments(self._store, stage, keys)
        others = {
            other: (names, count)
            for other, count in found.counts.items()
            if other is not None and (names := [n for n in own.differing(other) if n not in ignored])
        }
        if not others:
            return
        number = sum(count for _, count in others.values())
        of = f"{number} of {found.looked}" if found.looked == found.objects else f"{number} of the {found.looked}"
        rest = "" if found.looked == found.objects else f" looked at ({found.objects} in all)"
        self._log.warning(
            f"{of} {stage} objects{rest} were computed in another environment: {_differences(own, others)}; computed "
            "here they may have other bits (docs/store.md)"
        )


def _differences(own: Environment, others: dict[Environment, tuple[list[str], int]]) -> str:
    """Each name that differs, with the values there and the value here."""
    here = own.as_json()
    values: dict[str, list[str]] = {}
    for other, (names, _) in others.items():
        for name in names:
            values.setdefault(name, []).append(other.as_json().get(name, ABSENT))
    return ", ".join(
        f"{name} {' and '.join(dict.fromkeys(there))} (here {here.get(name, ABSENT)})" for name, there in values.items()
    )
