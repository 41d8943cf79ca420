"""Write the params.yaml of a project and of its shipped detectors, for a dataset and a network (``rcnn params init``).

Nothing is written before every choice has been checked: the dataset's splits, the header of the weights file, and
all files as the pipeline will read them.
"""

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from cache import atomic_write
from cache.errors import ParamsError, StageError
from manifests import Dataset, load_registered
from manifests.select import select
from pipeline.context import registered_folder
from pipeline.detectors import Layout, detector_names
from pipeline.hardware import has_bfloat16
from pipeline.params import SHARED, own_groups, parse_params, read_kind, schema
from stages.graph import KINDS, ROOT, Kind
from stages.networks.initial import planned_network
from stages.networks.net_weight import is_net_weight
from stages.networks.network import Network, build
from stages.networks.settings import NetworkSettings
from stages.networks.weights import open_weights

from .ilsvrc import KINDS as ILSVRC_KINDS
from .ilsvrc import choose_ilsvrc, ilsvrc_splits
from .overfeat import overfeat_choices
from .rcnn import rcnn_choices
from .regions import region_choices
from .sppnet import sppnet_choices
from .task import (
    Choices,
    Convention,
    Preset,
    Task,
    batch_of,
    chosen_classes,
    chosen_input,
    chosen_splits,
    presets_said,
    unlike,
)
from .text import differences, with_values

# The detectors that are shipped, by folder; each is of the kind of that name.
SHIPPED = {
    "sppnet": "SPP-net",
    "fast": "Fast R-CNN",
    "faster": "Faster R-CNN in four steps",
    "joint": "Faster R-CNN trained at once",
    "overfeat": "OverFeat",
}
_SHIPPED = Path(__file__).parents[2]  # whose params.yaml files have the comments
_KEPT = ("seed", "execution", "store", "scenes")  # of the machine and of the built-in dataset, not of this one
_SHOWN = 12  # differences named


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line; None: not given."""

    dataset: str
    network: str
    weights: str
    preset: Preset
    convention: Convention | None = None
    layer: str | None = None
    train: str | None = None
    test: str | None = None
    profile: str | None = None
    classes: tuple[str, ...] = ()
    min_objects: int | None = None


@dataclass(frozen=True)
class Draft:
    """A params.yaml to be written: its text, the document that it holds, and why it is so, line by line."""

    layout: Layout
    text: str
    document: Mapping[str, Any]
    reasons: tuple[str, ...]

    @property
    def path(self) -> Path:
        """The file."""
        return self.layout.params_file


def drafts(project: Path, request: Request, command: str) -> list[Draft]:
    """Choose every parameter of R-CNN, and of those ``SHIPPED`` that the project has.

    ParamsError or StageError where it cannot work.

    ``command`` stands in the files' first line.
    """
    task = _task(project, request)
    root = Layout(project)
    present = _present(root.params_file)
    kept = {name: present[name] for name in (*_KEPT, *_unread(request)) if name in present}
    said = presets_said(request.preset)
    own = rcnn_choices(task)
    if request.profile is not None:
        choose_ilsvrc(own, task, is_root=True)
    made = [_draft(root, KINDS[ROOT], own, kept, f"# Written by `{command}`:\n# {said}.\n")]
    shared = {name: value for name, value in made[0].document.items() if name in SHARED}
    for name in (name for name in SHIPPED if name in detector_names(project)):
        layout = Layout(project, name)
        if read_kind(layout).name != name:
            continue
        if request.profile is not None and name not in ILSVRC_KINDS:
            left = f"{layout.params_file}: left as it is: it cannot train on images that are annotated in part"
            made[-1] = replace(made[-1], reasons=(*made[-1].reasons, left))
            continue
        head = (
            f"# {SHIPPED[name]}, written by `{command}`:\n# {said}.\n"
            "# What all detectors share stands in the project's own params.yaml.\n"
        )
        there = _present(layout.params_file)
        kept = shared | {group: there[group] for group in _unread(request) if group in there}
        try:
            choices = _choices(task, project, name)
            if request.profile is not None:
                choose_ilsvrc(choices, task, is_root=False)
        except (ParamsError, StageError) as error:  # no reason to write nothing of the others
            left = f"{layout.params_file}: left as it is, since it cannot work: {error}"
            made[-1] = replace(made[-1], reasons=(*made[-1].reasons, left))
            continue
        told = {line for draft in made for line in draft.reasons}
        choices.reasons = [line for line in choices.reasons if line not in told]
        made.append(_draft(layout, KINDS[name], choices, kept, head))
    return made


def _choices(task: Task, project: Path, kind: str) -> Choices:
    """Choose the parameters of a shipped detector."""
    if kind == "sppnet":
        return sppnet_choices(task)
    return overfeat_choices(task, project) if kind == "overfeat" else region_choices(task, project, kind)


def _unread(request: Request) -> tuple[str, ...]:
    """Name the groups that are not read with these weights, and so are left as they are."""
    return () if request.weights == "pretrain" else ("pretrain",)


def edited(draft: Draft) -> list[str]:
    """Name what replacing the file would lose: each value that differs; nothing where git has the file as it is."""
    if not draft.path.exists() or draft.path.read_text(encoding="utf-8") == draft.text or _in_git(draft.path):
        return []
    lines = changes(draft)
    return lines or ["its comments or its form"]


def changes(draft: Draft) -> list[str]:
    """Name each value that writing the draft changes, the first few by name and then their number."""
    lines = list(differences(_present(draft.path), draft.document)) if draft.path.exists() else []
    more = len(lines) - _SHOWN
    return lines if more <= 1 else [*lines[:_SHOWN], f"... and {more} more"]


def write(draft: Draft, *, keep_former: bool) -> Path | None:
    """Write the file; with ``keep_former`` the one that was there stays under the name that is returned."""
    former = None
    if keep_former and draft.path.exists():
        former = _free_name(draft.path)
        atomic_write(former, draft.path.read_bytes())
    atomic_write(draft.path, draft.text.encode())
    return former


def other_detectors(project: Path, made: list[Draft]) -> Iterator[str]:
    """Tell of each detector that is not written and has another network than the one chosen; of each once."""
    written = {draft.layout.name for draft in made}
    told = [reason for draft in made for reason in draft.reasons]
    network = made[0].document["network"]
    for name in detector_names(project):
        layout = Layout(project, name)
        if any(reason.startswith(f"{layout.params_file}: left as it is") for reason in told):
            continue
        own = _present(layout.params_file).get("network")
        if name not in written and isinstance(own, Mapping):
            chosen = {f"network.{key}": value for key, value in network.items()}
            for parameter in unlike(chosen, own):
                yield f"{layout.params_file}: has another {parameter} and is left as it is; edit it to go on with it"


def _task(project: Path, request: Request) -> Task:
    """Look the dataset and the weights up, and refuse what cannot work."""
    registered = load_registered(request.dataset, project / "artifacts").dataset
    splits, dataset, left_out = _splits(registered, request)
    on_gpu = torch.cuda.is_available()
    fast = not on_gpu and request.preset != "paper" and has_bfloat16()
    dtype, batch = "bfloat16" if fast else "float32", batch_of(request.network, on_gpu)
    common = {"name": request.network, "dtype": dtype, "batch": batch}
    if request.weights == "pretrain":
        settings, network, source = _from_scratch(project, request, common)
    else:
        settings, network, source = _given(project, request, common)
    task = Task(dataset, splits, settings, network, source, request.preset, request.layer, on_gpu, left_out)
    try:
        network.node(task.svm_layer)
    except StageError as error:
        raise ParamsError(f"--layer {request.layer}: {error}") from None
    return task


def _splits(registered: Dataset, request: Request) -> tuple[tuple[str, str], Dataset, Mapping[str, int] | None]:
    """Return what the splits to train and to test on are called, the dataset of a run on them, and the classes that are
    left out with their training objects; None: all classes are taken."""
    listed: str | tuple[str, ...]
    if request.profile is None:
        listed, test = names = chosen_splits(registered, request.train, request.test)
    else:
        train, test = ilsvrc_splits(registered, request.train, request.test)
        listed = train if len(train) > 1 else train[0]
        names = (" + ".join(train), test)
    classes, left_out = chosen_classes(registered, listed, request.classes, request.min_objects)
    return names, select(registered, listed, test, classes), left_out


def _from_scratch(project: Path, request: Request, common: Mapping[str, Any]) -> tuple[NetworkSettings, Network, str]:
    file = registered_folder(project, request.dataset) / "classification.npz"
    if not file.is_file():
        raise ParamsError(
            f"--weights pretrain: dataset {request.dataset} brings no classification set ({file}), from which a "
            "network could be trained; give a .safetensors file or a torchvision name (docs/own-data.md)"
        )
    if request.convention is not None:
        raise ParamsError("--input: a network that is trained from scratch has its own; leave the option out")
    settings = NetworkSettings(weights="pretrain", **common)
    return settings, build(settings.name, 2, device="meta").eval(), "the network's own"


def _given(project: Path, request: Request, common: Mapping[str, Any]) -> tuple[NetworkSettings, Network, str]:
    """Read the header (or the length) of a weights file, or look torchvision's name up."""
    weights, own, source = request.weights, {}, "torchvision's"
    file = Path(weights)
    is_file = weights.endswith(".safetensors") or is_net_weight(weights)
    if is_file and not file.is_absolute():
        file = file if file.exists() else project / weights
        file = file.parent.resolve() / file.name  # a link keeps its name, which tells what it is
        inside = file.is_relative_to(project.resolve())
        weights = str(file.relative_to(project.resolve()) if inside else file)
    if is_net_weight(weights):
        if request.convention is not None:
            raise ParamsError(f"--input {request.convention}: {file} has its authors' own; leave the option out")
        source = "its authors' own"
    elif is_file:
        _, meta = open_weights(file, header_only=True)
        chosen, source = chosen_input(request.network, str(file), meta, request.convention)
        own = {"input": chosen, **_head_in(meta)}
    elif request.convention is not None:
        raise ParamsError(f"--input: torchvision says the input convention of {weights}; leave the option out")
    elif file.exists() and file.suffix:
        raise ParamsError(f"--weights {weights}: not a .safetensors file; docs/own-data.md says how to convert one")
    settings = NetworkSettings(weights=weights, **own, **common)
    return settings, planned_network(settings, project), source


def _head_in(meta: Mapping[str, str]) -> dict[str, Any]:
    """Return pyramid and fc of a file of this package's, as its metadata has them."""
    found = {name: yaml.safe_load(meta[name]) for name in ("pyramid", "fc") if name in meta}
    return {name: tuple(value) for name, value in found.items() if isinstance(value, list)}


def _draft(layout: Layout, kind: Kind, choices: Choices, given: Mapping[str, Any], head: str) -> Draft:
    """Put the choices among the defaults, check them as the pipeline will, and write the file's text."""
    defaults = schema(kind.name)().model_dump(mode="json")
    values: dict[str, Any] = {**defaults, **given}
    for name, value in choices.values.items():
        group, _, parameter = name.partition(".")
        if parameter:
            values[group] = {**values[group], parameter: value}
        else:
            values[group] = value
    parse_params(values, str(layout.params_file), kind)
    if not layout.is_root:
        values = {"kind": kind.name, **{name: values[name] for name in own_groups(kind)}}
    shipped = _SHIPPED / layout.params_file.relative_to(layout.project)
    text = shipped.read_text(encoding="utf-8") if shipped.is_file() else ""
    return Draft(layout, with_values(text, head, values, choices.comments), values, tuple(choices.reasons))


def _present(path: Path) -> Mapping[str, Any]:
    """Return what a params.yaml holds; nothing where it is absent or no YAML."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def _in_git(path: Path) -> bool:
    """Return whether git has committed the file just as it is, so that nothing is lost with it."""
    for command in (("ls-files", "--error-unmatch"), ("diff", "--quiet", "HEAD")):
        try:
            done = subprocess.run(
                ["git", "-C", str(path.parent), *command, "--", path.name], capture_output=True, check=False
            )
        except OSError:  # no git here
            return False
        if done.returncode:
            return False
    return True


def _free_name(path: Path) -> Path:
    names = (path.with_name(f"{path.name}.before{number}") for number in ("", *map(str, range(2, 1000))))
    return next(name for name in names if not name.exists())
