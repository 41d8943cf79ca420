"""Base of every stage's parameter model."""

from typing import TypeVar

from pydantic import BaseModel, ConfigDict

T = TypeVar("T")


class Settings(BaseModel):
    """Frozen, strict parameters: an unknown key or a value out of range is an error.

    No field may be called ``size`` or ``nfiles``: DVC's run cache drops those keys when it hashes parameters,
    so a change of such a parameter would restore a stale result (dvc#10296).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, protected_namespaces=())


def distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    """A field's validator: the values as they are; ValueError where one is listed twice."""
    if len(set(values)) != len(values):
        raise ValueError("an entry is listed twice; list each once")
    return values
