"""The laws of imports: down the packages, down the floors of ``stages/``, no circle, at the top of the file."""

import ast
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from stages.graph import STAGES

ROOT = Path(__file__).parents[2]
ABOVE = {  # what each package may import of the others
    "cache": (),
    "manifests": ("cache",),
    "stages": ("manifests", "cache"),
    "pipeline": ("stages", "manifests", "cache"),
    "rcnn": ("pipeline", "stages", "manifests", "cache"),
}
# The rooms and single files of stages/: each imports only from floors before its own (docs/architecture.md).
FLOORS = (
    ("settings", "stopwatch"),
    ("contract", "lists"),
    ("boxes", "kernels", "page"),
    ("regions",),
    ("networks", "proposals", "scoring", "duplicates"),
    ("features", "training", "dense"),
    ("pretrain", "finetune", "svm", "bbox", "rpn", "units"),
    ("detections", "classification"),
    ("fast",),
    ("faster", "overfeat", "segmentation"),
    ("scenes", "manifest", "evaluate", "report", "comparison", "diagnosis"),
    ("graph",),
    ("trained_files",),
    ("detector", "segmenter"),
)
# Imports that stand in a function, since each would cost every command its time, and few need it: half a second and
# more (torch, torchvision, scikit-learn, dask, numba's compiled functions), a tenth (h5py, zarr, fsspec), or numpy's
# own to `rcnn --help`. Whoever adds one says here what it spares.
DEFERRED = {
    "cache/_hdf5.py": {"h5py"},
    "cache/_zarr.py": {"google_crc32c", "numcodecs.zstd", "zarr"},
    "cache/model_file.py": {"h5py"},
    "cache/untrusted.py": {"h5py"},
    "cache/url.py": {"fsspec"},
    "manifests/fonts.py": {"matplotlib"},
    "manifests/masks/mat_file.py": {"h5py"},
    "manifests/scenes/glyphs.py": {"sklearn.datasets"},
    "manifests/scenes/photographs.py": {"sklearn.datasets"},
    "pipeline/cli/__init__.py": {"cache", "cache.errors", "cache.text"},
    "pipeline/cli/metrics.py": {"stages.scoring.metrics"},
    "pipeline/cli/params.py": {"pipeline.params_init.drafts"},
    "pipeline/context.py": {"pipeline.dask.runner"},
    "pipeline/environments.py": {"stages.networks.forward"},
    "stages/classification/picture_svms.py": {"sklearn.exceptions", "sklearn.svm"},
    "stages/features/export.py": {"pyarrow", "pyarrow.parquet"},
    "stages/features/featureset.py": {"dask.array", "dask.delayed"},
    "stages/networks/weights.py": {"safetensors"},
    "stages/proposals/file.py": {"h5py"},
    "stages/proposals/methods.py": {
        "stages.proposals.opencv",
        "stages.proposals.region_arrays",
        "stages.proposals.selective_search.search",
        "stages.regions.masks",
    },
    "stages/stopwatch.py": {"torch"},
    "stages/svm/cells.py": {
        "stages.features.spp.windows",
        "stages.networks.network",
        "stages.networks.receptive_field",
    },
    "stages/svm/softmax.py": {"stages.networks.weights", "torch"},
}
# What a command must not wait for: `rcnn --help`, and `rcnn run STAGE` before its stage is imported.
HEAVY = {"torch", "torchvision", "numba", "scipy", "sklearn", "dask", "distributed", "h5py", "zarr", "cv2", "dvc"}


def name_of(path: Path) -> str:
    """The dotted name of a module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {name_of(path): path for package in ABOVE for path in sorted((ROOT / package).rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in SOURCES.items()}


def statements(tree: ast.AST, *, inside: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports of a module: at its top (types' alone among them), or ``inside`` functions and classes."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from () if inside else (node,)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found = (one for one in ast.walk(node) if isinstance(one, ast.Import | ast.ImportFrom))
            yield from found if inside else ()
        else:
            yield from statements(node, inside=inside)


def imported(name: str, node: ast.Import | ast.ImportFrom) -> set[str]:
    """The modules that a statement of module ``name`` imports, by their absolute names."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    package = name.split(".") if SOURCES[name].name == "__init__.py" else name.split(".")[:-1]
    base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
    module = ".".join(part for part in (base, node.module) if part)
    found = {f"{module}.{alias.name}" for alias in node.names}
    return {one if one in SOURCES else module for one in found}


def ours(name: str, *, inside: bool) -> set[str]:
    """The project's own modules that a module imports, at its top or ``inside``."""
    found = {one for node in statements(TREES[name], inside=inside) for one in imported(name, node)}
    return found & SOURCES.keys() - {name}


def room_of(name: str) -> str:
    """The room of a module of ``stages``, or the file's own name where it is in none."""
    return name.split(".")[1]


@pytest.mark.parametrize("name", SOURCES)
def test_imports_point_down(name: str) -> None:
    package = name.split(".", maxsplit=1)[0]
    found = {one for inside in (False, True) for one in ours(name, inside=inside)}
    used = {one.split(".")[0] for one in found}
    assert used <= {package, *ABOVE[package]}


def test_rooms_lie_on_floors() -> None:
    height = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
    modules = [name for name in SOURCES if name.startswith("stages.")]
    assert {room_of(name) for name in modules} == set(height)
    wrong = {
        (name, one)
        for name in modules
        for one in ours(name, inside=False) | ours(name, inside=True)
        if one.startswith("stages.") and room_of(one) != room_of(name) and height[room_of(one)] >= height[room_of(name)]
    }
    assert not wrong


def test_the_floors_are_those_of_the_architecture_page() -> None:
    """Every room and file of ``stages/`` stands in the drawing, and none below one that it may import."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    drawing = text.split("a file imports only from floors below its own:")[1].split("```")[1]
    rows = drawing.splitlines()
    at = {
        room: next((i for i, row in enumerate(rows) if re.search(rf"(  |, ){room}(\.py)?( |,|$)", row)), None)
        for rooms in FLOORS
        for room in rooms
    }
    assert None not in at.values(), at
    floors = [[row for room in rooms if (row := at[room]) is not None] for rooms in FLOORS]
    assert all(max(above) <= min(below) for below, above in pairwise(floors)), at


def test_no_room_is_named_after_who_uses_it() -> None:
    drawers = {"common", "utils", "util", "helpers", "helper", "misc", "shared", "tools"}
    assert not {name for name in SOURCES if drawers & set(name.split("."))}


def test_no_files_import_each_other_in_a_circle() -> None:
    left = {name: ours(name, inside=False) for name in SOURCES}
    while free := {name for name, needs in left.items() if not needs & left.keys()}:
        left = {name: needs for name, needs in left.items() if name not in free}
    assert not left


def test_nothing_imports_a_stage() -> None:
    wrong = [
        f"{name} imports {one}"
        for name in SOURCES
        for inside in (False, True)
        for one in ours(name, inside=inside)
        if one.endswith("stage")
    ]
    assert not wrong, "\n".join(wrong)


def test_only_stages_know_a_context() -> None:
    """Every other file is functions that can be called without a project."""
    knowing = {
        name
        for name in SOURCES
        if name.startswith("stages.")
        for node in statements(TREES[name], inside=False)
        if isinstance(node, ast.ImportFrom) and any(alias.name == "Context" for alias in node.names)
    }
    assert knowing == {name for name in SOURCES if name.startswith("stages.") and name.endswith("stage")}
    assert knowing == {stage.run.partition(":")[0] for stage in STAGES.values()}


def test_the_page_of_all_stages_is_light() -> None:
    needs = {one for one in ours("stages.graph", inside=False) if one.startswith("stages.")}
    assert {one for one in needs if not one.endswith(".settings")} == {"stages.contract"}


def test_there_is_one_of_each() -> None:
    """One IoU, one suppression, one atomic write, one nearest-name hint."""
    functions = defaultdict(set)
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                functions[node.name].add(name)
    assert functions["iou"] == functions["paired_iou"] == {"stages.boxes.geometry"}
    assert {name for one in functions for name in functions[one] if re.search(r"(^|_)nms(_|$)", one)} == {
        "stages.boxes.nms"
    }
    assert functions["atomic_write"] == {"cache.files"}
    hinting = {
        name for name in TREES for one in statements(TREES[name], inside=False) if "difflib" in imported(name, one)
    }
    assert hinting == {"cache.text"} == functions["nearest"]


def test_no_two_classes_share_a_name() -> None:
    places = defaultdict(set)
    for name, tree in TREES.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].add(name)
    assert not {one: names for one, names in places.items() if len(names) > 1}


def test_no_benchmark_imports_a_stage() -> None:
    """What is measured is the algorithm, as whoever imports it has it."""
    found = {
        (path.name, module)
        for path in (ROOT / "benchmarks").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module
        for module in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
    }
    assert ("bench_scale.py", "stages.proposals.methods.key_params") in found
    assert not {(name, module) for name, module in found if module.startswith("stages.") and module.endswith("stage")}


def test_imports_stand_at_the_top_but_for_those_that_are_listed() -> None:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for name, path in SOURCES.items():
        for node in statements(TREES[name], inside=True):
            found[path.relative_to(ROOT).as_posix()] |= imported(name, node)
    assert dict(found) == DEFERRED


def test_mypy_sees_every_module_that_tests_import_by_its_bare_name() -> None:
    """It leaves these folders out but for what is imported from them, and for the modules that pyproject.toml lists."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]
    tree = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "tests").rglob("*.py")]
    nodes = [node for one in tree for node in ast.walk(one)]
    seen = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    seen |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)} | set(settings["modules"])
    beside = {path.stem for folder in settings["mypy_path"] for path in (ROOT / folder).glob("*.py")}
    assert {name for name in beside if name != "conftest" and not name.startswith("test_")} <= seen


def test_only_the_pipeline_knows_click_and_dvc() -> None:
    for name in SOURCES:
        if not name.startswith("pipeline"):
            nodes = [node for inside in (False, True) for node in statements(TREES[name], inside=inside)]
            assert not {one.split(".")[0] for node in nodes for one in imported(name, node)} & {"click", "dvc"}, name


@pytest.mark.parametrize(
    ("code", "spared"), [("pipeline.cli", HEAVY | {"numpy", "pydantic"}), ("pipeline.cli.run, rcnn", HEAVY)]
)
def test_a_command_starts_without_what_it_may_not_need(code: str, spared: set[str]) -> None:
    line = f"import sys, {code}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", line], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not spared & set(done.stdout.split())
