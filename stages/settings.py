"""Bases of every stage's parameters: the model of a group, and a detector's groups together."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag

from manifests.select import unlisted

T = TypeVar("T")
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
SavedName = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]  # under which the user puts a run's results aside


class Settings(BaseModel):
    """Frozen, strict parameters: an unknown key or a value out of range is an error.

    No field may be called ``size`` or ``nfiles``: DVC's run cache drops those keys when it hashes parameters,
    so a change of such a parameter would restore a stale result (dvc#10296).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, protected_namespaces=())

    whole: ClassVar[bool] = True  # False: some parameters of a group whose owner is another model


S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Parameters:
    """The parsed parameters of one detector: each group's settings, by the group's name."""

    groups: Mapping[str, Settings]

    def of(self, group: str, model: type[S]) -> S:
        """The settings of ``group``, or those of its parameters that ``model`` names."""
        found = self.groups[group]
        if isinstance(found, model):
            return found
        return model(**{name: getattr(found, name) for name in model.model_fields})


def require_order(group: str, settings: Settings, low: str, high: str, *, strict: bool = False) -> None:
    """Raise ValueError where parameter ``low`` of a group is above ``high``, or, ``strict``, not below it."""
    below, above = getattr(settings, low), getattr(settings, high)
    if below > above or (strict and below == above):
        must = "must be below" if strict else "must not be above"
        raise ValueError(f"{group}.{low} ({below}) {must} {group}.{high} ({above})")


def distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    """A field's validator: the values as they are; ValueError where one is listed twice."""
    if len(set(values)) != len(values):
        raise ValueError("an entry is listed twice; list each once")
    return values


def _rising(values: tuple[int, ...]) -> tuple[int, ...]:
    if any(later <= earlier for earlier, later in pairwise(values)):
        raise ValueError("each iteration must be after the one before; list them in order")
    return values


def one_or_list(value: Any) -> str:
    """Discriminate a parameter that is a value or a list of such: tags without letters, told under its own name."""
    return " " if isinstance(value, list | tuple) else ""


_Iteration = Annotated[int, Field(ge=1, le=10_000_000)]
# When a learning rate drops: after every so many iterations, or at those listed.
RateDrops = Annotated[
    Annotated[_Iteration, Tag("")]
    | Annotated[tuple[_Iteration, ...], Field(min_length=1, max_length=64), AfterValidator(_rising), Tag(" ")],
    Discriminator(one_or_list),
]

_Split = Annotated[str, Field(min_length=1)]
# One split of the dataset, or several, whose images are taken together.
SplitNames = Annotated[
    Annotated[_Split, Tag("")] | Annotated[tuple[_Split, ...], Field(min_length=1), AfterValidator(distinct), Tag(" ")],
    Discriminator(one_or_list),
]


class TrainSettings(Settings):
    """The parameter of group ``manifest`` that says which splits are trained on."""

    whole: ClassVar[bool] = False

    train: SplitNames = "train"


def check_images(params: Parameters, name: str, splits: str | tuple[str, ...] | None) -> Iterator[str]:
    """Say so where the ``splits`` that parameter ``name`` chooses for a task are not listed in ``manifest.train``."""
    yield from unlisted(splits, params.of("manifest", TrainSettings).train, name)
