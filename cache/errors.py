"""What can go wrong with the store, each with the command or change that puts it right."""


class StoreError(Exception):
    """The store cannot do what was asked; the message is one line saying what, where, and what to do."""


class StoreVersionError(StoreError):
    """The store, an object or an artifact manifest was written by a newer version of this program."""


class StorePermissionError(StoreError):
    """The system does not let this user do it: a read-only file system, or no permission."""


class ObjectError(StoreError):
    """Something is wrong with one object. ``stage`` and ``key`` are the object's."""

    def __init__(self, message: str, stage: str, key: str) -> None:
        super().__init__(message)
        self.stage, self.key = stage, key

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        return type(self), (str(self), self.stage, self.key)


class MissingObjectError(ObjectError):
    """The store has no object of this stage and key."""


class CorruptObjectError(ObjectError):
    """An object's bytes are not those that were written. ``quarantined``: it was taken out of the store."""

    def __init__(self, message: str, stage: str, key: str, quarantined: bool) -> None:
        super().__init__(message, stage, key)
        self.quarantined = quarantined

    def __reduce__(self) -> tuple[type, tuple[str, str, str, bool]]:  # type: ignore[override]
        return type(self), (str(self), self.stage, self.key, self.quarantined)


class StoreFullError(StoreError):
    """No space (or quota, or allowed file size) left while writing; nothing half-written stays behind."""


def remedy(stage: str) -> str:
    """The command that fills a stage's gaps: it recomputes only what the store lacks."""
    return f"run `dvc repro -f -s {stage}`, which recomputes only what is missing, and then this again"
