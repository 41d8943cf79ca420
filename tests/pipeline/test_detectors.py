"""Several detectors in one project: made, listed, removed by command; what is wrong is one line and nothing is lost."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_detections import CLASSES, N_IMAGES, made, record

from cache import Artifact
from cache.errors import ParamsError
from manifests import Dataset, save_dataset
from pipeline import cli, dvc_files
from pipeline.detectors import Layout, detector_names
from pipeline.graph import nodes_before, nodes_of
from pipeline.params import load_params
from pipeline.workspace import stage_artifacts
from stages.graph import SAVED, STAGES

ROOT = Path(__file__).parents[2]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the root's parameters, and nothing else yet."""
    monkeypatch.delenv("RCNN_STORE", raising=False)
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    return tmp_path


@pytest.fixture
def rcnn(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command on the project: exit code, stdout, stderr."""

    def call(*arguments: object, at: Path | None = None) -> tuple[int, str, str]:
        here = ["-C", str(project)] if at is None else []
        monkeypatch.chdir(at or "/")
        monkeypatch.setattr("sys.argv", ["rcnn", *here, *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return (code, *capsys.readouterr())

    return call


def files(project: Path) -> dict[str, bytes]:
    """Everything that is there, but for empty lock files."""
    found = (path for path in project.rglob("*") if path.is_file() and ".locks" not in path.parts)
    return {path.relative_to(project).as_posix(): path.read_bytes() for path in found}


def change(layout: Layout, **groups: Any) -> None:
    """Set values of a group of a detector's parameters, or the group itself; None removes it."""
    document = yaml.safe_load(layout.params_file.read_text())
    for group, value in groups.items():
        whole = value is None or not isinstance(document.get(group), dict)
        document[group] = value if whole else document[group] | value
    kept = {name: value for name, value in document.items() if value is not None}
    layout.params_file.write_text(yaml.safe_dump(kept, sort_keys=False))


def refused(rcnn: Run, project: Path, *arguments: object, **options: Any) -> str:
    """The one line that a refused command says; AssertionError if anything of the project is another after it."""
    before = files(project)
    code, out, err = rcnn(*arguments, **options)
    assert (code, out) == (2, ""), err
    (line,) = err.splitlines()
    assert line.startswith("rcnn: ")
    assert files(project) == before
    return line


@pytest.fixture
def mine(rcnn: Run, project: Path) -> Layout:
    """The detector ``mine`` of kind sppnet."""
    assert rcnn("detector", "add", "mine", "--kind", "sppnet")[0] == 0
    return Layout(project, "mine")


def test_add_writes_parameters_to_edit_and_what_dvc_runs(rcnn: Run, project: Path) -> None:
    code, out, err = rcnn("detector", "add", "mine", "--kind", "rcnn")
    assert (code, err) == (0, "")
    assert "detectors/mine/params.yaml: R-CNN" in out and "`dvc repro " in out
    layout = Layout(project, "mine")
    own, root = (yaml.safe_load(one.params_file.read_text()) for one in (layout, Layout(project)))
    assert own.pop("kind") == "rcnn"
    assert own == {group: root[group] for group in own}  # begins as the root's, whose kind it is
    assert {"svm", "features", "report"} <= own.keys() and not {"dataset", "seed", "proposals", "classify"} & own.keys()
    assert "# the paper: caffenet (T-Net), vgg16 (O-Net)" in layout.params_file.read_text()
    assert (project / "dvc.yaml").read_text() == (ROOT / "dvc.yaml").read_text()
    assert (project / "classification/dvc.yaml").read_text() == (ROOT / "classification/dvc.yaml").read_text()
    stages = yaml.safe_load(layout.dvc_file.read_text())["stages"]
    assert stages["svm"]["cmd"].startswith("rcnn -d mine run svm --stage-version ")
    assert stages["svm"]["outs"][0] == "artifacts/detectors/mine/svm/model.h5"


def test_add_begins_with_the_parameters_of_another(rcnn: Run, project: Path, mine: Layout) -> None:
    change(mine, svm={"C": 0.5})
    code, _, err = rcnn("detector", "add", "yours", "--like", "mine")
    assert (code, err) == (0, "")
    params = load_params(Layout(project, "yours"))
    assert params.svm.C == 0.5  # type: ignore[attr-defined]
    # nor does anything but the name differ
    texts = [Layout(project, name).dvc_file.read_text() for name in ("mine", "yours")]
    assert texts[0].replace("mine", "yours") == texts[1]


def test_what_is_added_for_a_kind_begins_with_one_of_that_kind(rcnn: Run, project: Path) -> None:
    (project / "detectors").mkdir()
    (project / "detectors/sppnet").mkdir()
    shipped = ROOT / "detectors/sppnet/params.yaml"
    (project / "detectors/sppnet/params.yaml").write_bytes(shipped.read_bytes())
    assert rcnn("detector", "add", "scales", "--kind", "sppnet")[0] == 0
    own = yaml.safe_load((project / "detectors/scales/params.yaml").read_text())
    assert own == yaml.safe_load(shipped.read_text())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mine", "is taken; `rcnn detector ls` lists"),
        ("rcnn", "is taken"),
        ("svm", "is a stage's or a folder's; choose another"),
        ("classify", "is a stage's"),
        ("maps", "is a stage's"),
        ("fast_1", "is a stage's"),
        ("proposals", "is a stage's"),
        ("results", "is a stage's or a folder's"),
        ("comparison", "is a stage's or a folder's"),
        ("Artifacts", "is a stage's or a folder's"),
        ("../mine", "use letters, digits"),
        ("a b", "use letters, digits"),
        (".hidden", "use letters, digits"),
        ("-x", "use letters, digits"),
        ("", "use letters, digits"),
        ("x\n", "use letters, digits"),
        ("x" * 65, "at most 64"),
    ],
)
def test_a_name_that_a_detector_cannot_have(rcnn: Run, project: Path, mine: Layout, name: str, said: str) -> None:
    line = refused(rcnn, project, "detector", "add", "--kind", "rcnn", "--", name)
    assert f"detector name {name!r}: " in line and said in line


def test_every_node_s_folder_is_kept_from_detectors(rcnn: Run, project: Path, mine: Layout) -> None:
    params = load_params(Layout(project))
    for name in nodes_of(Layout(project), params):
        refused(rcnn, project, "detector", "add", name, "--kind", "rcnn")


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "detectors").iterdir()))
def test_what_the_project_ships_can_be_had_again(rcnn: Run, project: Path, name: str) -> None:
    for _ in range(2):
        code, _, err = rcnn("detector", "add", name, "--kind", name)
        assert code == 0, err
        assert detector_names(project) == ["rcnn", name]
        assert rcnn("detector", "remove", name, "--delete")[0] == 0
        assert detector_names(project) == ["rcnn"]


def test_a_detector_that_there_is_not(rcnn: Run, project: Path, mine: Layout) -> None:
    for arguments in (("-d", "mien", "run", "svm"), ("-d", "mien", "metrics"), ("detector", "remove", "mien")):
        line = refused(rcnn, project, *arguments)
        assert "there is no detector 'mien' (did you mean 'mine'?); there are: rcnn, mine" in line
    line = refused(rcnn, project, "detector", "add", "new", "--like", "nobody")
    assert "there is no detector 'nobody'" in line


KINDS_OF_WRONG = [
    ({"kind": None}, "params.yaml: does not say which kind of detector it is; add `kind:` and one of kinds: rcnn, "),
    ({"kind": "sppnt"}, "params.yaml: kind = 'sppnt': there is no such kind (did you mean 'sppnet'?)"),
    ({"kind": ["sppnet"]}, "params.yaml: kind = ['sppnet']: there is no such kind"),
    ({"proposals": {"k": [50]}}, "proposals is every detector's and stands in the project's own params.yaml; move it"),
    ({"seed": 4}, "seed is every detector's and stands in the project's own params.yaml; move it there"),
    ({"svmm": {}}, "detectors/mine/params.yaml: unknown parameter 'svmm' (did you mean 'svm'?)"),
    ({"svm": {"C": -1}}, "detectors/mine/params.yaml: svm.C = -1"),
    ({"svm": {"layer": "fc9"}}, "detectors/mine/params.yaml: svm.layer = 'fc9' is not among features.layers"),
]


@pytest.mark.parametrize(("wrong", "said"), KINDS_OF_WRONG)
def test_wrong_parameters_are_one_line(
    rcnn: Run, project: Path, mine: Layout, wrong: dict[str, Any], said: str
) -> None:
    change(mine, **wrong)
    for arguments in (
        ("-d", "mine", "run", "svm"),
        ("detector", "write"),
        ("detector", "add", "new", "--kind", "rcnn"),
    ):
        assert said in refused(rcnn, project, *arguments)


def test_a_group_of_another_kind_is_named(rcnn: Run, project: Path, mine: Layout) -> None:
    for other in ("mine", "rcnn"):
        assert other in detector_names(project)
    assert rcnn("detector", "add", "both", "--kind", "combined", "--of", "rcnn,mine")[0] == 0
    change(Layout(project, "both"), svm={"C": 1})
    line = refused(rcnn, project, "-d", "both", "run", "combine")
    assert line.endswith(
        "detectors/both/params.yaml: group svm is of kind sppnet, and this detector of kind combined; remove it"
    )


def test_a_wrong_shared_parameter_is_told_of_the_root_s_file(rcnn: Run, project: Path, mine: Layout) -> None:
    change(Layout(project), proposals={"k": [-1]})
    line = refused(rcnn, project, "-d", "mine", "run", "svm")
    assert f"{project.name}" not in line.split(":")[1]
    assert line.startswith("rcnn: params.yaml: proposals.k")


def test_a_dvc_yaml_edited_by_hand_names_the_command(rcnn: Run, project: Path, mine: Layout) -> None:
    version = nodes_of(mine, load_params(mine))["svm"].version
    written = mine.dvc_file.read_text()
    mine.dvc_file.write_text(written.replace("artifacts/detectors/mine/svm/model.h5", "elsewhere.h5"))
    line = refused(rcnn, project, "-d", "mine", "run", "svm", "--stage-version", version)
    assert "detectors/mine/dvc.yaml: is not what the stages and this detector's params.yaml make it" in line
    assert "run `rcnn detector write`" in line
    code, out, _ = rcnn("detector", "write")
    assert (code, out) == (0, f"wrote {mine.dvc_file}\n")
    assert mine.dvc_file.read_text() == written
    assert rcnn("detector", "write")[1] == "every dvc.yaml is as it should be\n"


def test_a_dvc_yaml_of_another_version_of_a_stage_names_the_command(rcnn: Run, project: Path, mine: Layout) -> None:
    line = refused(rcnn, project, "-d", "mine", "run", "svm", "--stage-version", 1)
    now = STAGES["svm"].version
    assert f"mine/dvc.yaml: was written for version 1 of svm, which is {now} here; run `rcnn detector write`" in line
    assert "dvc.yaml: was written for version 99 of" in refused(rcnn, project, "run", "svm", "--stage-version", 99)


def test_ls_shows_kinds_and_scores(rcnn: Run, project: Path, mine: Layout) -> None:
    mine.reports.mkdir(parents=True)
    (mine.reports / "metrics.json").write_text(json.dumps({"voc2010": {"mAP": 0.4567}}))
    code, out, _ = rcnn("detector", "ls")
    assert code == 0
    head, root, own = out.splitlines()
    assert head.split()[:2] == ["name", "kind"]
    assert root.split()[:3] == ["rcnn", "rcnn", "-"]
    assert own.split()[:3] == ["mine", "sppnet", "45.7"]
    for text in ("", "[]", '{"voc2010": {"mAP": null}}', "[" * 10_000):
        (mine.reports / "metrics.json").write_text(text)
        assert rcnn("detector", "ls")[1].splitlines()[2].split()[:3] == ["mine", "sppnet", "-"]


def test_remove_says_what_it_would_and_removes_on_demand(rcnn: Run, project: Path, mine: Layout) -> None:
    for folder in (mine.artifacts / "svm", mine.reports, project / "artifacts/svm", project / "artifacts/objects/svm"):
        folder.mkdir(parents=True)
        (folder / "file").touch()
    assert "artifacts/detectors/mine" in (project / "comparison/dvc.yaml").read_text()
    before = files(project)
    code, out, _ = rcnn("detector", "remove", "mine")
    assert (code, out.count("would remove ")) == (0, 3)
    assert "Nothing was removed; --delete removes them." in out
    assert files(project) == before
    assert rcnn("detector", "remove", "mine", "--delete")[0] == 0
    compared = (project / "comparison/dvc.yaml").read_bytes()
    assert b"mine" not in compared
    rest = {name: data for name, data in before.items() if "mine" not in name}
    assert files(project) == rest | {"comparison/dvc.yaml": compared}
    assert detector_names(project) == ["rcnn"]


def test_neither_the_root_s_nor_one_that_others_join_can_be_removed(rcnn: Run, project: Path, mine: Layout) -> None:
    assert "cannot be removed" in refused(rcnn, project, "detector", "remove", "rcnn", "--delete")
    assert rcnn("detector", "add", "both", "--kind", "combined", "--of", "rcnn,mine")[0] == 0
    line = refused(rcnn, project, "detector", "remove", "mine", "--delete")
    assert "mine: is joined by the detector both; remove that one first, or edit its combine" in line
    assert rcnn("detector", "remove", "both", "--delete")[0] == 0
    assert rcnn("detector", "remove", "mine", "--delete")[0] == 0


def test_a_call_that_cannot_be_meant_leaves_nothing(rcnn: Run, project: Path, mine: Layout) -> None:
    for arguments, said in (
        (("new",), "say what it is: --kind KIND, or --like NAME"),
        (("new", "--kind", "combined"), "name the detectors that it joins"),
        (("new", "--kind", "sppnet", "--of", "rcnn,mine"), "joins no others"),
        (("new", "--kind", "combined", "--of", "rcnn,mien"), "did you mean 'mine'"),
    ):
        before = files(project)
        code, _, err = rcnn("detector", "add", *arguments)
        assert code == 2 and said in err and "Traceback" not in err
        assert files(project) == before


def test_a_combination_of_combinations_is_refused(rcnn: Run, project: Path, mine: Layout) -> None:
    assert rcnn("detector", "add", "both", "--kind", "combined", "--of", "rcnn,mine")[0] == 0
    line = refused(rcnn, project, "detector", "add", "all", "--kind", "combined", "--of", "rcnn,both")
    assert "combine.detectors: both is itself a combination, whose windows are suppressed already" in line


def test_in_a_detector_s_folder_it_is_meant(rcnn: Run, project: Path, mine: Layout) -> None:
    assert rcnn("detector", "write")[0] == 0  # dvc.yaml of the root, by which the project is known
    assert "reports/mine/scores.json: not found" in refused(rcnn, project, "metrics", at=mine.folder)
    assert "reports/scores.json" in refused(rcnn, project, "-d", "rcnn", "metrics", at=mine.folder)


def test_the_parts_of_a_combination_are_run_first_and_watched(rcnn: Run, project: Path, mine: Layout) -> None:
    assert rcnn("detector", "add", "both", "--kind", "combined", "--of", "rcnn,mine")[0] == 0
    layout = Layout(project, "both")
    entry = yaml.safe_load(layout.dvc_file.read_text())["stages"]["combine"]
    lists = {"artifacts/detect/manifest.json", "artifacts/detectors/mine/detect/manifest.json"}
    assert lists < set(entry["deps"])
    nodes = nodes_of(layout, load_params(layout))
    assert nodes_before("report", nodes, "scenes") == ["scenes", "manifest", "proposals", "combine", "evaluate"]
    # one fewer: the command says so until dvc.yaml is written anew
    change(layout, combine={"detectors": ["mine"]})
    version = nodes["combine"].version
    assert "run `rcnn detector write`" in refused(
        rcnn, project, "-d", "both", "run", "combine", "--stage-version", version
    )
    assert rcnn("detector", "write")[0] == 0
    assert "artifacts/detect/manifest.json" not in layout.dvc_file.read_text()


def test_combined_gives_what_the_root_s_combine_gives_with_saved_detections(
    rcnn: Run, project: Path, mine: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    change(Layout(project), store={"root": "store"}, dataset="toy")
    images = tuple(record(i, f"{i}.png") for i in range(1, N_IMAGES + 1))
    first, second = made(project, 0), made(project, 1)
    for path, artifact in (
        ("artifacts/detect/manifest.json", first),
        ("artifacts/detectors/mine/detect/manifest.json", second),
        (f"{SAVED}/theirs.json", second),
    ):
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        artifact.write(project / path)
    (project / "artifacts/manifest").mkdir()
    save_dataset(Dataset("toy", CLASSES, images), project / "artifacts/manifest/manifest.json")
    assert rcnn("detector", "add", "both", "--kind", "combined", "--of", "rcnn,mine")[0] == 0
    code, _, err = rcnn("-d", "both", "run", "combine")
    assert code == 0 and f"both combine: {N_IMAGES} images computed, 0 found in the store" in err
    joined = Artifact.read(project / "artifacts/detectors/both/combine/manifest.json")
    change(Layout(project), combine={"detectors": ["theirs"]})
    code, _, err = rcnn("run", "combine")
    assert code == 0 and f"combine: 0 images computed, {N_IMAGES} found in the store" in err
    by_hand = Artifact.read(project / "artifacts/combine/manifest.json")
    assert joined.entries == by_hand.entries
    for name in ("thresholds", "rank_factor", "classes", "images", "classifier", "regressed"):
        assert joined.summary[name] == by_hand.summary[name], name
    assert set(joined.summary["detectors"]) == {"rcnn", "mine"}
    # and gc knows the lists of all of them
    assert {first, second, joined, by_hand} <= set(stage_artifacts(project))


def test_all_files_are_written_at_once(project: Path) -> None:
    (project / "detectors/mine").mkdir(parents=True)
    (project / "detectors/mine/params.yaml").write_text("kind: sppnet\n")
    written = dvc_files.write_all(project)
    assert sorted(path.relative_to(project).as_posix() for path in written) == [
        "analysis/dvc.yaml",
        "classification/dvc.yaml",
        "comparison/dvc.yaml",
        "detectors/mine/dvc.yaml",
        "dvc.yaml",
        "segmentation/dvc.yaml",
    ]
    assert dvc_files.write_all(project) == []


def test_a_dvc_yaml_that_is_no_text_is_one_that_was_edited(project: Path) -> None:
    (project / "detectors/mine").mkdir(parents=True)
    (project / "detectors/mine/params.yaml").write_text("kind: sppnet\n")
    dvc_files.write_all(project)
    layout = Layout(project, "mine")
    layout.dvc_file.write_bytes(b"\xff\xfe")
    with pytest.raises(ParamsError, match="edited by hand"):
        dvc_files.check_written(layout, load_params(layout))
    assert dvc_files.write_all(project) == [layout.dvc_file]
    dvc_files.check_written(layout, load_params(layout))


@pytest.fixture
def proposing(rcnn: Run, project: Path) -> Layout:
    """The detector ``plain`` of kind fast, beside ``steps`` of kind faster and ``once`` of kind joint."""
    for name, kind in (("plain", "fast"), ("steps", "faster"), ("once", "joint")):
        assert rcnn("detector", "add", name, "--kind", kind)[0] == 0
    return Layout(project, "plain")


def proposals_read(layout: Layout) -> dict[str, str]:
    """Whose proposals each node reads, as DVC is told."""
    stages = yaml.safe_load(layout.dvc_file.read_text())["stages"]
    lists = {name: [path for path in one["deps"] if "propos" in path] for name, one in stages.items()}
    return {name: path for name, paths in lists.items() for path in paths}


def test_proposals_of_one_detector_for_training_and_of_another_for_test(
    rcnn: Run, project: Path, proposing: Layout
) -> None:
    given = "artifacts/proposals/manifest.json"
    assert proposals_read(proposing) == dict.fromkeys(("fast", "roi_detect", "evaluate", "report"), given)
    change(proposing, regions={"test": "steps/propose_1"})
    code, out, _ = rcnn("detector", "write")
    assert code == 0 and "wrote " in out and "detectors/plain/dvc.yaml" in out
    of_steps = "artifacts/detectors/steps/propose_1/manifest.json"
    assert proposals_read(proposing) == {"fast": given, **dict.fromkeys(("roi_detect", "evaluate", "report"), of_steps)}
    change(proposing, regions={"train": "once/propose", "test": "proposals"})
    assert rcnn("detector", "write")[0] == 0
    of_once = "artifacts/detectors/once/propose/manifest.json"
    assert proposals_read(proposing) == {"fast": of_once, **dict.fromkeys(("roi_detect", "evaluate", "report"), given)}


def test_whose_proposals_is_written_before_it_runs(rcnn: Run, project: Path, proposing: Layout) -> None:
    change(proposing, regions={"test": "steps/propose_2"})
    line = refused(rcnn, project, "-d", "plain", "run", "roi_detect", "--stage-version", STAGES["roi_detect"].version)
    assert line.endswith("run `rcnn detector write`, and the command again")


WRONG_SOURCES = [
    ("stps/propose_1", "there is no other detector 'stps' (did you mean 'steps'?); there are: once, steps; or `propos"),
    ("plain/propose_1", "there is no other detector 'plain'"),
    ("rcnn/propose_1", "there is no other detector 'rcnn'"),
    (
        "steps/propose",
        "steps has no such proposals; it has: steps/propose_1, steps/propose_2",
    ),
    ("once/roi_detect", "once has no such proposals; it has: once/propose"),
    ("other/propose_1", "other has no such proposals; it has: none, since it is of kind fast"),
    ("given", "regions.test = 'given': string should match pattern"),
    ("../steps/propose_1", "regions.test = '../steps/propose_1': string should match pattern"),
]


@pytest.mark.parametrize(("source", "said"), WRONG_SOURCES)
def test_proposals_that_there_are_not(rcnn: Run, project: Path, proposing: Layout, source: str, said: str) -> None:
    if source.startswith("other"):
        assert rcnn("detector", "add", "other", "--kind", "fast")[0] == 0
    change(proposing, regions={"test": source})
    for arguments in (("-d", "plain", "run", "roi_detect"), ("detector", "write")):
        line = refused(rcnn, project, *arguments)
        assert "detectors/plain/params.yaml: regions.test = " in line and said in line


def test_only_a_detector_without_proposals_of_its_own_takes_others(rcnn: Run, project: Path, proposing: Layout) -> None:
    change(Layout(project, "steps"), regions={"test": "once/propose"})
    line = refused(rcnn, project, "-d", "steps", "run", "rpn_1")
    assert line.endswith("group regions is of kind fast, and this detector of kind faster; remove it")


def test_a_detector_whose_proposals_are_taken_stays(rcnn: Run, project: Path, proposing: Layout) -> None:
    change(proposing, regions={"train": "steps/propose_1"})
    line = refused(rcnn, project, "detector", "remove", "steps", "--delete")
    assert line.endswith("steps: the detector plain takes its proposals; edit the regions of that one first")
    assert rcnn("detector", "remove", "once", "--delete")[0] == 0


def test_lists_in_a_folder_are_the_projects_too(project: Path) -> None:
    """Dense views have a list for each scale; gc, push and verify start from these."""
    folder = project / "artifacts/classify/dense"
    assert stage_artifacts(project) == []
    folder.mkdir(parents=True)
    lists = {scale: Artifact("classify", 1, {}, {}, ((1, f"{scale:064x}"),), {"dataset": "toy"}) for scale in (72, 88)}
    for scale, artifact in lists.items():
        artifact.write(folder / f"{scale}.json")
    assert set(stage_artifacts(project)) == set(lists.values())
