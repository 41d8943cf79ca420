"""Every dvc.yaml of a project, written from the declarations in ``stages/graph.py``.

DVC sees of the code only each stage's version (``--stage-version``): an edited comment makes nothing run, and a stage
that gives other results has another version. Paths are the project's: the other files' ``wdir`` points there.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from cache import atomic_write
from cache.errors import ParamsError
from stages.contract import Node
from stages.graph import ANALYSIS, CLASSIFICATION, HEAD, KINDS, ROOT, SEGMENTATION, at

from .detectors import Layout, detector_names
from .graph import comparing, nodes_of
from .params import SHARED, Params, load_params, own_groups, read_kind

_WRITTEN = "# Written by `rcnn detector write` from stages/graph.py; edit that page, not this file.\n"
_ROOT_HEAD = (
    "# R-CNN. `dvc repro` runs what has changed, in order; `dvc repro -s STAGE` one stage. Outputs are small:\n"
    "# per-image results and trained models live in the content-addressed store (artifacts/objects/), and a stage\n"
    "# hands on the list of their names.\n"
)
_DETECTOR_HEAD = (
    "# {meaning}.\n"
    "# `dvc repro detectors/{name}/dvc.yaml`; in this folder `dvc repro`, `dvc repro -s STAGE`, `dvc exp run -S ...`.\n"
)
_CLASSIFICATION_HEAD = (
    "# Classification (docs/classification.md): `dvc repro classification/dvc.yaml`. In a file of its own, so that\n"
    "# `dvc repro`, which runs the detector, neither runs these stages nor shows their empty results. Nor does\n"
    "# `dvc pull` miss them where they never ran: nothing here is in DVC's cache. The figures are for git to keep.\n"
)
_SEGMENTATION_HEAD = (
    "# Semantic segmentation (docs/segmentation.md): `dvc repro segmentation/dvc.yaml`. In a file of its own, since\n"
    "# it needs masks, which few datasets have. Nothing here is in DVC's cache; the figures are for git to keep.\n"
)
_COMPARISON_HEAD = (
    "# All detectors of the project on one page: `dvc repro comparison/dvc.yaml` (`make compare`) makes what is\n"
    "# missing of each, and reports/comparison/index.html. `rcnn compare A B` compares those that exist.\n"
)
_ANALYSIS_HEAD = (
    "# What the results of the project's R-CNN are like (docs/analysis.md): `dvc repro analysis/dvc.yaml`. Another\n"
    "# detector's: `rcnn -d NAME run STAGE`. In a file of its own, as classification's stages are.\n"
)
# How DVC draws a table: {stage: {output: its line below `plots:`}}.
_PLOTS = {
    ("evaluate", "pr"): "{x: recall, y: precision, title: Precision and recall, template: pr_by_class}",
    ("evaluate", "recall_iou"): "{x: iou, y: recall, title: Recall of the region proposals, template: by_class}",
    ("svm", "mining"): "{x: images_seen, y: objective, title: SVM objective after each fit, template: mining_by_class}",
    ("finetune", "curve"): "{x: iteration, y: [train_loss, val_loss], title: Fine-tuning}",
    ("pretrain", "curve"): "{x: iteration, y: [train_loss, val_loss], title: Pre-training}",
}


def write_all(project: Path) -> list[Path]:
    """Write every dvc.yaml of a project whose text is not what it should be; returns those written."""
    written = []
    for path, text in list(_texts(project)):  # none is written where one cannot be
        if not path.exists() or path.read_bytes() != text.encode():
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, text.encode())
            written.append(path)
    return written


def _texts(project: Path) -> Iterator[tuple[Path, str]]:
    yield project / "dvc.yaml", root_text()
    yield project / "classification" / "dvc.yaml", classification_text()
    yield project / "segmentation" / "dvc.yaml", segmentation_text()
    yield project / "analysis" / "dvc.yaml", analysis_text()
    yield project / "comparison" / "dvc.yaml", comparison_text(project)
    for name in detector_names(project)[1:]:
        layout = Layout(project, name)
        yield layout.dvc_file, detector_text(layout, load_params(layout))


def root_text() -> str:
    """Return the project's own dvc.yaml: what all detectors share, and R-CNN."""
    nodes = [at(one) for one in (*HEAD, *KINDS[ROOT].places)]
    return _ROOT_HEAD + _WRITTEN + "\n" + _file(nodes, Layout(Path()), wdir=None)


def classification_text() -> str:
    """Return classification/dvc.yaml."""
    nodes = [at(one) for one in CLASSIFICATION]
    return _CLASSIFICATION_HEAD + _WRITTEN + "\n" + _file(nodes, Layout(Path()), wdir="..", cached=False)


def segmentation_text() -> str:
    """Return segmentation/dvc.yaml."""
    nodes = [at(one) for one in SEGMENTATION]
    return _SEGMENTATION_HEAD + _WRITTEN + "\n" + _file(nodes, Layout(Path()), wdir="..", cached=False)


def analysis_text() -> str:
    """Return analysis/dvc.yaml."""
    nodes = [at(one) for one in ANALYSIS]
    return _ANALYSIS_HEAD + _WRITTEN + "\n" + _file(nodes, Layout(Path()), wdir="..", cached=False)


def comparison_text(project: Path) -> str:
    """Return comparison/dvc.yaml: one page of all detectors that the project has."""
    node = comparing(detector_names(project))
    return _COMPARISON_HEAD + _WRITTEN + "\n" + _file([node], Layout(Path()), wdir="..", cached=False)


def detector_text(layout: Layout, params: Params) -> str:
    """Return the dvc.yaml of a detector in ``detectors/``."""
    elsewhere = {one.name for one in (*HEAD, *ANALYSIS)}
    nodes = [node for node in nodes_of(layout, params).values() if node.name not in elsewhere]
    head = _DETECTOR_HEAD.format(meaning=read_kind(layout).meaning, name=layout.name)
    return head + _WRITTEN + "\n" + _file(nodes, layout, wdir="../..")


def check_written(layout: Layout, params: Params) -> None:
    """ParamsError where a detector's dvc.yaml is not what its parameters and this version make it."""
    if layout.is_root or not layout.dvc_file.exists():
        return
    if layout.dvc_file.read_bytes() != detector_text(layout, params).encode():
        raise ParamsError(
            f"{layout.dvc_file}: is not what the stages and this detector's params.yaml make it (edited by hand, or by "
            "another version); run `rcnn detector write`, and the command again"
        )


def _file(nodes: Sequence[Node], layout: Layout, *, wdir: str | None, cached: bool = True) -> str:
    asks = any("${dataset}" in path for node in nodes for path in node.inputs.values())
    lines = ["vars:", f"- {wdir}/params.yaml:dataset", ""] if wdir is not None and (asks or not layout.is_root) else []
    lines.append("stages:")
    for node in nodes:
        lines += _stage(node, layout, wdir, cached)
    plots = [
        f"- {'../../' if wdir == '../..' else ''}{node.outputs[output]}: {how}"
        for (stage, output), how in _PLOTS.items()
        for node in nodes
        if node.stage.name == stage
    ]
    if plots:
        lines += ["", "plots:", *plots]
    return "\n".join(lines) + "\n"


def _stage(node: Node, layout: Layout, wdir: str | None, cached: bool) -> list[str]:
    stage = node.stage
    whose = "" if layout.is_root else f"-d {layout.name} "
    lines = [f"  {node.name}:", f"    cmd: rcnn {whose}run {node.name} --stage-version {stage.version}"]
    if wdir is not None:
        lines.append(f"    wdir: {wdir}")
    lines += _list("deps", node.inputs.values())
    lines += _params(node, layout)
    special = {*stage.metrics, *stage.plots}
    end = "" if cached else ": {cache: false}"
    lines += _list("outs", (path + end for name, path in node.outputs.items() if name not in special))
    lines += _list("metrics", (node.outputs[name] + end for name in stage.metrics))
    lines += _list("plots", (node.outputs[name] + end for name in stage.plots))
    return lines


def _params(node: Node, layout: Layout) -> list[str]:
    """Return what DVC is to watch of the parameters; a detector's own are named with their file."""
    stage = node.stage
    names = list(_all_read(layout, node)) if stage.reads_all else list(stage.parameters)
    if any("${dataset}" in path for path in node.inputs.values()) and "dataset" not in names:
        names.insert(0, "dataset")
    shared = [name for name in names if layout.is_root or name in SHARED]
    own = [name for name in names if name not in shared]
    if not names:
        return []
    file = layout.params_file.as_posix() if layout.is_root else f"detectors/{layout.name}/params.yaml"
    lines = ["    params:", *(f"    - {name}" for name in shared)]
    return lines + ([f"    - {file}:", *(f"      - {name}" for name in own)] if own else [])


def _all_read(layout: Layout, node: Node) -> Iterator[str]:
    """Name every group that a node that shows all of its detector's parameters depends on."""
    kind = KINDS[ROOT] if layout.is_root else read_kind(layout)
    yield from ("dataset", "seed")
    for one in HEAD[1:]:
        yield from one.stage.settings
    yield from own_groups(kind)


def _list(key: str, entries: Iterable[str]) -> list[str]:
    """A block of a stage, nothing where it would be empty."""
    items = [f"    - {entry}" for entry in entries]
    return [f"    {key}:", *items] if items else []
