"""The command line: what a wrong input gets is one clear line, exit code 2, and no traceback."""

import errno
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from cache import Artifact, Store
from pipeline.params_table import markdown

ROOT = Path(__file__).parents[2]
Run = Callable[..., tuple[int, str, str]]


def change(project: Path, group: str, **values: object) -> None:
    path = project / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params[group] = params[group] | values if isinstance(params[group], dict) else values["value"]
    path.write_text(yaml.safe_dump(params))


def voc(folder: Path, boxes: list[tuple[int, int, int, int]]) -> Path:
    """A VOC folder of one 40x30 image in train and one in test."""
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    for name in ("a", "b"):
        Image.fromarray(np.full((30, 40, 3), 90, np.uint8)).save(folder / f"JPEGImages/{name}.jpg")
        objects = "".join(
            f"<object><name>cat</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
            "</bndbox></object>"
            for x1, y1, x2, y2 in boxes
        )
        size = "<size><width>40</width><height>30</height><depth>3</depth></size>"
        xml = f"<annotation><filename>{name}.jpg</filename>{size}{objects}</annotation>"
        (folder / f"Annotations/{name}.xml").write_text(xml)
    (folder / "ImageSets/Main/train.txt").write_text("a\n")
    (folder / "ImageSets/Main/test.txt").write_text("b\n")
    return folder


def test_help_names_every_command(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert all(
        f"\n  {name} " in out
        for name in (
            *("run", "detector", "dataset", "detect", "detections", "cache", "extract", "features", "params"),
            *("compare", "metrics", "classification", "grid"),
        )
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["metrcs"], "did you mean 'metrics'"),
        (["run", "featurs"], "did you mean 'features'"),
        (["metrics"], "run `dvc repro` first"),
        (["dataset", "show", "cats"], "'cats' is not registered"),
        (["detections", "save", "A\n"], "name 'A\\n': letters, digits"),
        (["detect", "nothing.jpg", "--out", "x"], "no such file or folder"),
        (["cache", "show", "zz"], "hex"),
        (["cache", "verify", "--stage", "featurs"], "did you mean 'features'"),
        (["cache", "ls", "featurs"], "did you mean 'features'"),
        (["cache", "ls", "--dataset", "nosuch"], "no result is of dataset 'nosuch'"),
        (["params", "svmm"], "did you mean 'svm'"),
        (["dataset", "import", "voc", "nowhere", "--name", "n"], "there is no such file or folder"),
        (["features", "show", "1"], "run `dvc repro`"),
        (["features", "export"], "--npy FILE or --parquet FILE"),
        (["features", "export", "--npy", "x", "--parquet", "y"], "--npy FILE or --parquet FILE"),
        (["features", "export", "--npy", "x.bin"], "ends in .npy"),
        (["features", "export", "--npy", "no/such/x.npy"], "no such folder"),
        (["features", "export", "--parquet", "x.parquet"], "run `dvc repro`"),
    ],
)
def test_wrong_calls(run: Run, project: Path, arguments: list[str], expected: str) -> None:
    code, out, err = run("-C", project, *arguments)
    assert code == 2
    assert expected in err
    assert "Traceback" not in err + out


@pytest.mark.parametrize("text", ["[]", "{}", '{"voc2010": {"AP": 3}}', "[" * 100_000])
def test_metrics_of_another_form_are_one_line(run: Run, project: Path, text: str) -> None:
    (project / "reports").mkdir(exist_ok=True)
    (project / "reports" / "scores.json").write_text(text)
    code, out, err = run("-C", project, "metrics")
    assert code == 2
    assert "scores.json" in err and "`dvc repro -f -s evaluate`" in err
    assert "Traceback" not in err + out


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "no space left on device; free some space"),
        (OSError(errno.EACCES, "Permission denied", "out/x"), "out/x: permission denied; check path and permissions"),
        (OSError(errno.EFBIG, "File too large"), "file too large; free some space"),
    ],
)
def test_what_the_system_refuses_is_one_line(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, line: str
) -> None:
    def refused(*args: object) -> None:
        raise error

    monkeypatch.setattr("pipeline.cli.run.run_node", refused)
    code, _, err = run("-C", project, "run", "svm")
    assert code == 2
    assert err.startswith(f"rcnn: {line}")
    assert err.count("\n") == 1


def test_an_error_of_ours_keeps_its_traceback(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr("pipeline.cli.run.run_node", broken)
    with pytest.raises(OSError, match="Bad file"):
        run("-C", project, "run", "svm")


def test_a_store_at_an_address_that_is_none(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RCNN_STORE", "nosuch://x")
    code, out, err = run("-C", project, "cache", "verify")
    assert (code, out) == (2, "")
    assert "store nosuch://x: neither a folder nor" in err
    assert err.count("\n") == 1


def test_what_a_run_is_about_to_compute_is_not_pushed(run: Run, project: Path) -> None:
    coming = Artifact("features", 1, {}, {}, ((1, "0" * 64),), {"dataset": "cats"})
    Store(project / "artifacts").register(coming.as_claim())
    code, out, err = run("-C", project, "cache", "push", "memory://unfinished/x", "--all")
    assert (code, out) == (2, "")
    assert "there are no results to copy" in err
    assert "unfinished, 1 to come" in run("-C", project, "cache", "ls")[1]


def test_nothing_to_push(run: Run, project: Path) -> None:
    code, out, err = run("-C", project, "cache", "push", "memory://empty/x")
    assert (code, out) == (2, "")
    assert "there are no results to copy; `dvc pull` or `dvc repro` makes them" in err


def test_cache_ls_tells_results_apart(run: Run, project: Path) -> None:
    store = Store(project / "artifacts")
    for seed, weights in ((3, "a" * 64), (4, "a" * 64), (4, "b" * 64)):
        params = {"seed": seed, "network": {"batch": 16}, "features": {"context_px": 9}}
        store.register(Artifact("features", 1, params, {"weights": weights}, (), {"dataset": "cats"}))
    code, out, _ = run("-C", project, "cache", "ls")
    assert code == 0
    rows = sorted(line.split(maxsplit=5)[-1] for line in out.splitlines()[1:])
    common = "features.context_px=9"  # differs from the default; network.batch does not
    assert [row[row.index(common) :] for row in rows] == [
        f"{common}, seed=3, weights=aaaaaaaa",
        f"{common}, seed=4, weights=aaaaaaaa",
        f"{common}, seed=4, weights=bbbbbbbb",
    ]


def test_misspelt_parameter(run: Run, project: Path) -> None:
    change(project, "svm", layr="fc6")
    code, _, err = run("-C", project, "run", "svm")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "unknown parameter 'svm.layr' (did you mean 'layer'?)" in err


def test_dataset_that_is_not_registered(run: Run, project: Path) -> None:
    change(project, "dataset", value="birds")
    code, _, err = run("-C", project, "run", "manifest")
    assert code == 2
    assert "dataset 'birds' is not registered" in err
    assert "rcnn dataset import" in err


def test_import_and_show(run: Run, project: Path) -> None:
    folder = voc(project / "cats", [(1, 1, 20, 20), (11, 6, 40, 30)])
    code, out, err = run("-C", project, "dataset", "import", "voc", folder, "--name", "cats")
    assert (code, "cats: 2 images (test: 1, train: 1), 1 classes (cat)" in out) == (0, True), err
    document = json.loads((project / "artifacts/datasets/cats/manifest.json").read_text())
    assert document["annotations"][0]["bbox"] == [0, 0, 20, 20]
    code, out, _ = run("-C", project, "dataset", "show", "cats")
    assert code == 0
    with Image.open(project / "reports/dataset-cats.png") as sheet:
        assert sheet.width > 300
    assert "cats" in run("-C", project, "dataset", "ls")[1]
    assert run("-C", project, "dataset", "refresh", "cats")[0] == 0


def test_the_line_that_an_import_prints_works_for_any_name(run: Run, project: Path) -> None:
    for name in ("train/cat/1", "train/dog/1", "test/cat/1", "test/dog/1"):
        file = project / "tree" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((9, 7, 3), len(name), np.uint8)).save(file)
    for name in ("007", "1e5", "no"):
        code, _, err = run("-C", project, "dataset", "import", "folders", project / "tree", "--name", name)
        printed = re.search(r"next: `(dataset: .*)` in params.yaml", err)
        assert code == 0 and printed is not None, err
        params = project / "params.yaml"
        params.write_text(re.sub(r"^dataset:.*$", printed[1], params.read_text(), flags=re.MULTILINE))
        code, _, err = run("-C", project, "run", "manifest")
        assert (code, f"manifest: {name}: 2 train and 2 test" in err) == (0, True), err


def test_import_of_two_folders_of_any_names(run: Run, project: Path) -> None:
    folder = voc(project / "cats", [(1, 1, 20, 20)])
    given = ("--images", folder / "JPEGImages", "--annotations", folder / "Annotations")
    command = ("-C", project, "dataset", "import", "voc", "--name", "cats")
    code, out, err = run(*command, *given)
    assert (code, out.startswith("cats: 2 images")) == (0, True), err
    assert run("-C", project, "dataset", "refresh", "cats")[0] == 0
    code, _, err = run(*command, *given[:2])
    assert code == 2 and "--annotations" in err
    code, _, err = run("-C", project, "dataset", "import", "yolo", folder, "--name", "n", *given[:2])
    assert code == 2 and "No such option" in err


@pytest.mark.parametrize("written", ["cat, dog", "cat,dog", " cat ,dog,", '"cat", dog'])
def test_spaces_in_a_list_of_classes_are_no_part_of_their_names(run: Run, project: Path, written: str) -> None:
    folder = voc(project / "cats", [(1, 1, 20, 20)])
    command = ("-C", project, "dataset", "import", "voc", folder, "--name", "cats", "--classes", written)
    code, out, err = run(*command)
    assert (code, "2 classes (cat, dog)" in out) == (0, True), err


def test_a_list_of_classes_with_nothing_between_commas_is_refused(run: Run, project: Path) -> None:
    folder = voc(project / "cats", [(1, 1, 20, 20)])
    command = ("-C", project, "dataset", "import", "voc", folder, "--name", "cats", "--classes", "cat, ,dog")
    code, _, err = run(*command)
    assert (code, "'cat, ,dog' has nothing before comma 2" in err) == (2, True), err


def test_a_refusal_says_that_it_could_be_skipped(run: Run, project: Path) -> None:
    folder = voc(project / "cats", [(1, 1, 20, 20)])
    (folder / "JPEGImages/b.jpg").write_bytes(b"no image")
    command = ("-C", project, "dataset", "import", "voc", folder, "--name", "cats")
    code, _, err = run(*command)
    assert (code, "rcnn: --on-error skip leaves out just what this line names" in err) == (2, True)
    assert run(*command, "--on-error", "skip")[0] == 0


def test_import_of_class_folders(run: Run, project: Path) -> None:
    for name in ("train/cat/1", "train/cat/2", "train/dog/1", "test/cat/1", "test/dog/1"):
        file = project / "tree" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((9, 7, 3), len(name) + int(name[-1]), np.uint8)).save(file)
    command = ("-C", project, "dataset", "import", "folders", project / "tree", "--name", "pets", "--per-class", "1")
    code, out, err = run(*command)
    assert (code, out) == (0, "pets: 4 images (test: 2, train: 2), 2 classes (cat, dog)\n")
    assert "dvc repro classification/dvc.yaml" in err and "4 of 5 pictures taken" in err
    assert "cat             1      1    2" in run("-C", project, "dataset", "show", "pets")[1]
    change(project, "dataset", value="pets")
    assert run("-C", project, "run", "manifest")[0] == 0
    code, _, err = run("-C", project, "run", "proposals")
    assert code == 2
    assert err.count("\n") == 1 and "dataset pets has one class per picture and no boxes" in err
    code, _, err = run("-C", project, "dataset", "import", "voc", project, "--name", "n", "--per-class", "1")
    assert code == 2 and "No such option" in err


def test_the_built_in_name_is_refused(run: Run, project: Path) -> None:
    folder = voc(project / "cats", [(1, 1, 20, 20)])
    code, _, err = run("-C", project, "dataset", "import", "voc", folder, "--name", "scenes")
    assert (code, "built-in" in err) == (2, True)
    assert not (project / "artifacts/datasets").exists()


def test_every_problem_of_a_dataset_at_once(run: Run, project: Path) -> None:
    folder = voc(project / "cats", [(1, 1, 20, 20), (30, 5, 10, 20), (1, 1, 90, 20)])
    (folder / "JPEGImages/b.jpg").write_bytes(b"no image")
    code, _, err = run("-C", project, "dataset", "import", "voc", folder, "--name", "cats")
    assert code == 2
    assert err.count("Annotations/a.xml: object") == 2
    assert "b.jpg: is not an image" in err
    assert not (project / "artifacts/datasets/cats").exists()


def test_weights_of_another_shape(run: Run, project: Path) -> None:
    import torch
    from safetensors.torch import save_file

    folder = voc(project / "cats", [(1, 1, 20, 20)])
    assert run("-C", project, "dataset", "import", "voc", folder, "--name", "cats")[0] == 0
    change(project, "dataset", value="cats")
    assert run("-C", project, "run", "manifest")[0] == 0
    save_file({"features.0.weight": torch.zeros(3, 3)}, project / "w.safetensors")
    change(project, "features", layers=["pool5"])
    change(project, "svm", layer="pool5")
    change(project, "network", name="squeezenet1_0", weights="w.safetensors")
    code, _, err = run("-C", project, "run", "pretrain")
    assert code == 2
    assert "w.safetensors" in err
    assert "Traceback" not in err


def test_store_of_a_newer_version(run: Run, project: Path) -> None:
    (project / "artifacts").mkdir()
    (project / "artifacts/store.json").write_text('{"format": 99}')
    code, _, err = run("-C", project, "cache", "du")
    assert code == 2
    assert "format 99" in err


def test_an_image_without_proposals_goes_through(run: Run, project: Path) -> None:
    folder = voc(project / "cats", [(1, 1, 20, 20)])  # uniform images: selective search finds only the whole
    assert run("-C", project, "dataset", "import", "voc", folder, "--name", "cats")[0] == 0
    change(project, "dataset", value="cats")
    change(project, "proposals", min_side_px=100)
    code, _, err = run("-C", project, "run", "manifest", "proposals")
    assert code == 0, err
    assert "a.jpg: no proposals" in err


def test_parameters_page_is_current() -> None:
    assert (ROOT / "docs/parameters.md").read_text(encoding="utf-8") == markdown()


def test_params_lists_values(run: Run, project: Path) -> None:
    change(project, "svm", C=0.25)
    code, out, _ = run("-C", project, "params", "svm.C")
    assert code == 0
    assert "0.25" in out
    assert "0.001" in out


def test_verify_tells_what_the_workspace_lacks(run: Run, project: Path) -> None:
    (project / "artifacts/features").mkdir(parents=True)
    Artifact("features", 1, {}, {}, ((1, "0" * 64),), {"dataset": "cats"}).write(
        project / "artifacts/features/manifest.json"
    )
    code, out, _ = run("-C", project, "cache", "verify")
    assert code == 2
    assert "features: 1 objects of the workspace's result are not in the store" in out


def test_pull_from_nowhere_is_one_line(run: Run, project: Path) -> None:
    code, out, err = run("-C", project, "cache", "pull", project / "nowhere")
    assert (code, out) == (2, "")
    assert err == f"rcnn: {project}/nowhere: there is no store here; check the address\n"


def test_a_store_that_would_end_with_the_process_is_refused(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RCNN_STORE", "memory://x/y")
    code, _, err = run("-C", project, "cache", "verify")
    assert code == 2
    assert "memory://x/y: it would end with this process" in err


@pytest.mark.parametrize("name", ["../A", ".A", "A\n", "", "A" * 65])
def test_detections_are_not_saved_under_a_name_that_is_no_plain_file_name(run: Run, name: str) -> None:
    code, _, err = run("detections", "save", name)
    assert code == 2
    assert f"name {name!r}: letters, digits" in err
