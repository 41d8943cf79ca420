"""The tables of ``rcnn cache ls``: results and objects, each with what sets it apart from the others."""

import re
import time
from collections.abc import Container, Iterable, Mapping, Sequence

from cache import Store
from cache.listing import ArtifactUsage, ObjectInfo, record_of
from cache.record import ObjectRecord
from cache.text import format_bytes, format_table
from pipeline.params import parse_params

_DIGEST = re.compile(r"\b([0-9a-f]{8})[0-9a-f]{56}\b")


def results_table(found: Sequence[ArtifactUsage], here: Container[str]) -> str:
    """One line per result, with what sets it apart; ``here``: digests of the workspace's own results."""
    usual = {name: {str(value)} for name, value in flatten(parse_params({}).model_dump(mode="json")).items()}
    made_of = [flatten(u.artifact.params) | _digest_heads(u.artifact.inputs) for u in found]
    values_of: dict[tuple[str, str], set[str]] = {}
    for u, flat in zip(found, made_of, strict=True):
        for name, value in flat.items():
            values_of.setdefault((u.artifact.stage, name), set(usual.get(name, ()))).add(str(value))
    rows = []
    for u, flat in zip(found, made_of, strict=True):
        differing = [f"{n}={v}" for n, v in sorted(flat.items()) if len(values_of[u.artifact.stage, n]) > 1]
        gaps = f"{u.missing} missing" if u.missing else ""
        gaps = f"unfinished, {u.missing} to come" if u.artifact.unfinished else gaps
        mark = "*" if u.artifact.digest in here else ""
        size = format_bytes(u.usage.nbytes)
        rows.append((mark, u.artifact.stage, u.dataset, u.usage.objects, size, gaps, ", ".join(differing)))
    return format_table(("", "stage", "dataset", "objects", "bytes", "", "set apart by"), rows, right=(3, 4))


def _digest_heads(inputs: Mapping[str, object]) -> dict[str, object]:
    """The first digits of each input's digest."""
    return {name: str(digest)[:8] for name, digest in inputs.items()}


def objects_table(store: Store, objects: Sequence[ObjectInfo]) -> str:
    """One line per object, with the parameters and the environment in which any two differ, and the inputs in which
    two of an image do."""
    records = [record_of(store, one) for one in objects]
    params = [flatten(record.recipe.params) | _environment(record) if record else {} for record in records]
    inputs = [flatten(record.recipe.inputs) if record else {} for record in records]
    by_image: dict[str, list[Mapping[str, object]]] = {}
    for one, read in zip(objects, inputs, strict=True):
        by_image.setdefault(one.image, []).append(read)
    names = _differing(params).union(*(_differing(of_one) for of_one in by_image.values()))
    rows = []
    for one, settings, read in zip(objects, params, inputs, strict=True):
        made_of = settings | read
        apart = ", ".join(f"{name}={_shortened(made_of[name])}" for name in sorted(names & made_of.keys()))
        rows.append((one.key[:12], one.image, format_bytes(one.nbytes), when(one.created), apart))
    return format_table(("key", "image", "bytes", "written", "set apart by"), rows, right=(2,))


def _environment(record: ObjectRecord) -> dict[str, object]:
    """The versions and the device that a record names, under names no parameter has."""
    return flatten({"environment": record.environment.as_json()}) if record.environment else {}


def _shortened(value: object) -> str:
    """A value in which of each digest the first digits are left."""
    return _DIGEST.sub(r"\1", str(value))


def _differing(made_of: Iterable[Mapping[str, object]]) -> set[str]:
    """Names that have more than one value."""
    values: dict[str, set[str]] = {}
    for flat in made_of:
        for name, value in flat.items():
            values.setdefault(name, set()).add(str(value))
    return {name for name, found in values.items() if len(found) > 1}


def flatten(value: object, prefix: str = "") -> dict[str, object]:
    """Nested mappings as one mapping with dotted names."""
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    out: dict[str, object] = {}
    for name, inner in value.items():
        out |= flatten(inner, f"{prefix}.{name}" if prefix else str(name))
    return out


def when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
