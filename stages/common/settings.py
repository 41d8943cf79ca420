"""Base of every stage's parameter model."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Frozen, strict parameters: an unknown key or a value out of range is an error.

    No field may be called ``size`` or ``nfiles``: DVC's run cache drops those keys when it hashes parameters,
    so a change of such a parameter would restore a stale result (dvc#10296).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, protected_namespaces=())
