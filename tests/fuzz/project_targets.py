"""params.yaml, and the small JSON files under reports/ that later commands read."""

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from dataset_targets import YAML
from mutations import JSON
from targets import Target, tolerant

_DIGEST = "d" * 64


def _params(root: Path) -> Callable[[bytes], None]:
    from pipeline.detectors import Layout
    from pipeline.params import load_params

    def read(data: bytes) -> None:
        (root / "params.yaml").write_bytes(data)
        load_params(Layout(root))

    return tolerant(read)


def _params_seeds() -> list[bytes]:
    from dataset_targets import YAML_BOMB

    from pipeline.params import parse_params

    full = yaml.safe_dump(parse_params({}).model_dump(mode="json")).encode()
    tagged = b"seed: !!python/object/apply:os.system ['true']\n"
    deep = [YAML_BOMB + line for line in (b"dataset: *j\n", b"svm: *j\n", b"seed: *j\n", b"network: {name: *j}\n")]
    return [
        full,
        b"seed: 3\nsvm: {C: 0.001}\n",
        *deep,
        YAML_BOMB,
        tagged,
        b"a: &a {b: *a}\n",
        b"[" * 3000,
        b"seed: 0o7_7\n",
        b"seed: 0x" + b"f" * 5000,
    ]


def _operating_points(root: Path) -> Callable[[bytes], None]:
    from cache import Artifact
    from stages.detector import _operating_points as read_points
    from stages.trained_files import TrainedFiles

    made = Artifact("detect", 1, {}, {}, ((1, _DIGEST),), {})
    (root / "reports").mkdir()
    file = root / "reports" / "operating_points.json"

    def read(data: bytes) -> None:
        file.write_bytes(data.replace(_DIGEST.encode(), made.digest.encode()))
        if (points := read_points(TrainedFiles(root, "rcnn"), made)) is not None:
            scores = [*points.bbox.values(), *points.no_bbox.values()]
            assert all(isinstance(score, float) for score in scores), scores

    return tolerant(read)


def _operating_seeds() -> list[bytes]:
    points: dict[str, Any] = {"detect": _DIGEST, "bbox": {"cat": 0.5}, "no_bbox": {"cat": -0.5}}
    wrong: tuple[object, ...] = ([], points | {"bbox": []}, points | {"bbox": {"cat": "x"}}, points | {"no_bbox": None})
    return [json.dumps(document).encode() for document in (points, *wrong)]


def _saved_detections(root: Path) -> Callable[[bytes], None]:
    from cache import Artifact
    from stages.detections.saved import check_fit, read_saved, same_images, saved_path

    own = Artifact.from_bytes(_saved_seeds()[0], "own")

    def read(data: bytes) -> None:
        saved_path(root, "other").write_bytes(data)
        other = read_saved(root, "other")
        check_fit(own, {"other": other})
        assert len(same_images(own, other)) == len(own.entries)

    return tolerant(read)


def _saved_seeds() -> list[bytes]:
    from cache import Artifact

    summary: dict[str, Any] = {"classes": ["cat"], "images": ["a", "b"], "classifier": "svm", "regressed": True}
    entries = ((1, _DIGEST), (2, "1" * 64))
    wrong: tuple[dict[str, Any], ...] = ({}, {"images": [["a"], "b"]}, {"images": 3}, {"classes": None})
    made = (Artifact("detect", 3, {}, {}, entries, summary | {"rank_factor": 40} | change) for change in wrong)
    return [artifact.to_bytes() for artifact in made]


def _saved_runs(root: Path) -> Callable[[bytes], None]:
    from stages.classification.runs import run_of
    from stages.classification.saved_runs import read_lists

    def read(data: bytes) -> None:
        (root / "other.json").write_bytes(data)
        run = run_of(read_lists(root, "other"), root)
        pictures = len(run.looked.pictures)
        assert len(run.of_views) in (0, pictures) and all(len(keys) == pictures for keys in run.of_scales.values())

    return tolerant(read)


def _saved_run_seeds() -> list[bytes]:
    from cache import Artifact
    from stages.classification.saved_runs import saved_bytes

    about: dict[str, Any] = {"dataset": "pets", "weights_digest": "w", "classes": ["cat"], "outputs": [0]}
    about |= {"images": ["a", "b"], "views": [4], "short_side_px": 73}
    entries = ((1, _DIGEST), (2, "1" * 64))
    wrong: tuple[dict[str, Any], ...] = ({}, {"images": [["a"], "b"]}, {"outputs": [10**400]}, {"weights_digest": []})
    lists = [Artifact("classify", 1, {}, {}, entries, about | change) for change in wrong]
    return [saved_bytes({"views": one, "72": lists[0]}) for one in lists]


def _timings(root: Path) -> Callable[[bytes], None]:
    from pipeline.detectors import Layout
    from pipeline.timings import read_timings, record

    layout = Layout(root)
    (root / "reports").mkdir()

    def read(data: bytes) -> None:
        (root / "reports" / "timings.json").write_bytes(data)
        read_timings(layout)
        record(layout, "svm", 1.0, {"reused": 3})
        record(layout, "features", 1.0, {"computed": 3}, {_DIGEST: {"conv": 0.5}})
        assert read_timings(layout)["features"]["per_image"][_DIGEST]["conv"] == 0.5

    return tolerant(read)


def _metrics(root: Path) -> Callable[[bytes], None]:
    from pipeline.cli.metrics import metrics

    (root / "reports").mkdir()

    def read(data: bytes) -> None:
        (root / "reports" / "scores.json").write_bytes(data)
        with contextlib.redirect_stdout(io.StringIO()):
            metrics.main([], standalone_mode=False, obj=root)

    return tolerant(read)


def _metrics_seeds() -> list[bytes]:
    scores: dict[str, Any] = {"voc2010": {"AP": {"cat": 0.5}, "mAP": 0.5}, "voc2007": {"AP": {"cat": 0.5}, "mAP": None}}
    scores |= {"coco": {"AP_class": {"cat": 0.5}, "AP": 0.1}}
    protocol = {"images": 1, "objects": 2, "difficult": 0, "crowd": 0, "voc_iou": 0.5, "n_bootstrap": 10}
    return [json.dumps(scores | {"no_bbox": scores, "protocol": protocol}).encode()]


_GRID = b"""
title: t
seeds: [3, 4]
figures: [AP, mAP, recall, paper]
roles: {mine: fast}
times: {node: rcnn/features, parts: [conv]}
rows:
  a: &a {set: &s {svm.C: 1, mine/fast.lr: "{mine}"}, paper: {c: 1}, labels: {b: 2}, needs: {svm.C: {anew: why}}}
  b: {<<: *a, set: {<<: *s, svm.layer: fc6}, detector: mine, scopes: [x]}
columns: {c: , d: {target: proposals}}
cells: [{rows: [a], set: {seed: 1}}]
"""


def _grid(root: Path) -> Callable[[bytes], None]:
    from pipeline.grids.plans import settings_of
    from pipeline.grids.printing import FORMATS, Shown, printed
    from pipeline.grids.reading import read_grid

    path = root / "grid.yaml"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        grid = read_grid(path)
        for row in grid.rows:
            for column in grid.columns:
                settings_of(grid.cell(row, column), row, column)
        for form in FORMATS:
            printed(Shown(grid, [], {}, "voc2010"), form)

    return tolerant(read)


def _grid_seeds() -> list[bytes]:
    from dataset_targets import YAML_BOMB

    deep = [YAML_BOMB + b"rows: {a: {%b: *j}}\n" % key for key in (b"set", b"labels", b"title", b"scopes", b"paper")]
    more = [YAML_BOMB + line for line in (b"seeds: *j\n", b"cells: *j\n", b"rows: {a: {set: {svm.C: *j}}}\n")]
    return [_GRID, b"rows: detectors\n", *deep, *more, b"a: &a {rows: *a}\nrows: *a\n", b"[" * 3000]


def _grid_results(root: Path) -> Callable[[bytes], None]:
    from pipeline.grids.measured import read_done
    from pipeline.grids.printing import FORMATS, Shown, printed
    from pipeline.grids.reading import read_grid

    path = root / "reports/grids/grid.json"
    path.parent.mkdir(parents=True)
    (root / "grid.yaml").write_bytes(_GRID.replace(b"target: proposals", b""))
    grid = read_grid(root / "grid.yaml")

    def read(data: bytes) -> None:
        path.write_bytes(data)
        done = read_done(root, grid)
        for form in FORMATS:
            printed(Shown(grid, done, {}, "voc2007", per_class=True), form)

    return tolerant(read)


def _result_seeds() -> list[bytes]:
    ap = {"voc2007": {"cat": 0.5, "dog": None}, "voc2010": {"cat": 0.25, "dog": None}}
    one: dict[str, Any] = {"row": "a", "column": "c", "seed": 3, "settings": ["svm.C=1"], "more": {"svm.C": [1]}}
    one |= {"origin": {"parameters": {"svm.C": 1}, "versions": {"svm": 5}, "files": {}}, "proposals": 300.5}
    one |= {"mean_ap": {"voc2007": 0.5, "voc2010": None}, "ap": ap, "costs": {"rcnn/features": {"of": "a"}}}
    one["costs"]["rcnn/features"]["seconds"] = {"conv": 0.5}
    return [json.dumps([one, one | {"row": "z"}, one | {"seed": 4}]).encode(), b"[]", b"[" * 5000]


_YAML_TOKENS = (b"!!python/object", b"*a", b"&a", b"<<:", b"? ", b"0x", b".inf", b"2026-01-01", b"seed:", b"\t")

PROJECT_TARGETS = (
    Target("params", _params, _params_seeds, _YAML_TOKENS, YAML),
    Target("operating_points", _operating_points, _operating_seeds, (), JSON),
    Target("saved_detections", _saved_detections, _saved_seeds, (b'"images"', b'"classes"', b'"detect"'), JSON),
    Target("saved_runs", _saved_runs, _saved_run_seeds, (b'"images"', b'"views"', b'"lists"', b'"72"'), JSON),
    Target("grid", _grid, _grid_seeds, (*_YAML_TOKENS, b"rows:", b"set:", b"detectors"), YAML),
    Target("grid_results", _grid_results, _result_seeds, (b'"seed"', b'"costs"', b"null", b"1e999"), JSON),
    Target("timings", _timings, lambda: [b'{"svm": {"seconds": 1.0, "computed": 2}}', b"[" * 5000], (), JSON),
    Target("metrics", _metrics, _metrics_seeds, (), JSON),
)
