"""The pipeline under git and DVC: what reruns, and what a colleague has after pulling."""

import filecmp
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Checkout:
    """A folder with the project in git and DVC, and how its commands are run."""

    folder: Path
    environment: dict[str, str]

    def __call__(self, *command: str) -> str:
        """What a command that ends well says."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def dvc(self, *arguments: str) -> str:
        return self(sys.executable, "-W", "ignore", "-m", "dvc", *arguments)

    def objects(self) -> dict[str, Path]:
        """Every file of every cached object, by its path in the store."""
        root = self.folder / "artifacts" / "objects"
        return {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def environment(warm_rcnn: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """``rcnn`` of this checkout on the path, and a home without a person's settings."""
    home = tmp_path_factory.mktemp("home")
    names = {"PATH": f"{warm_rcnn.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "HOME": str(home)}
    names |= {"DVC_NO_ANALYTICS": "1", "GIT_CONFIG_NOSYSTEM": "1"}
    for role in ("AUTHOR", "COMMITTER"):
        names |= {f"GIT_{role}_NAME": "A", f"GIT_{role}_EMAIL": "a@example.org"}
    # training sums in as many parts as it has threads: other bits for another number
    return names | {name: value for name, value in os.environ.items() if name.endswith("_NUM_THREADS")}


@pytest.fixture(scope="module")
def mine(
    finished: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Checkout, list[str]]:
    """A repository in which ``dvc repro`` has run once over a filled store; and what it said twice."""
    folder = tmp_path_factory.mktemp("mine") / "with spaces"
    shutil.copytree(finished, folder)
    for name in ("detections", "classification"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    checkout = Checkout(folder, environment)
    checkout("git", "init", "-q")
    checkout.dvc("init", "-q")
    return checkout, [checkout.dvc("repro"), checkout.dvc("repro")]


@pytest.mark.slow
def test_dvc_runs_it_and_then_nothing(mine: tuple[Checkout, list[str]], finished: Path) -> None:
    checkout, (first, second) = mine
    assert first.count("> rcnn run") == 12
    assert checkout.objects().keys() == Checkout(finished, {}).objects().keys()  # every image's results were found
    assert "> rcnn run" not in second
    assert "voc2010.mAP" in checkout.dvc("metrics", "show")


@pytest.mark.slow
@pytest.mark.parametrize("where", ["folder", "bucket"])
def test_a_colleague_pulls_and_dvc_has_nothing_to_do(
    mine: tuple[Checkout, list[str]], where: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    checkout, _ = mine
    names = dict(checkout.environment)
    url = str(tmp_path / "shared store")
    if where == "bucket":
        url = f"{request.getfixturevalue('s3_bucket')}/{os.urandom(6).hex()}"
        names |= {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    me, remote = Checkout(checkout.folder, names), str(tmp_path / "remote")
    me.dvc("remote", "add", "-q", "-f", "-d", "shared", remote)
    me("git", "add", ".")
    me("git", "commit", "-q", "-m", "Results")
    me.dvc("push", "-q")
    me("rcnn", "cache", "push", url)

    me("git", "clone", "-q", str(me.folder), str(tmp_path / "theirs"))
    they = Checkout(tmp_path / "theirs", names)
    they.dvc("pull", "-q")
    assert "39 objects" in they("rcnn", "cache", "pull", url)
    assert "> rcnn run" not in they.dvc("repro")
    assert re.findall(r": (\d+) images computed, (\d+) found", they.dvc("repro", "-f", "-s", "detect")) == [("0", "5")]
    assert "> rcnn run" not in they.dvc("repro")  # nor has the forced run made anything else stale
    ours, theirs = me.objects(), they.objects()
    assert ours.keys() == theirs.keys()
    assert all(filecmp.cmp(path, theirs[name], shallow=False) for name, path in ours.items())
    assert they("git", "status", "--porcelain") == ""


@pytest.mark.slow
def test_classification_has_a_pipeline_of_its_own(environment: dict[str, str], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(24):
        file = tmp_path / "pictures" / ("test" if i % 3 == 0 else "train") / ("cat", "dog")[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (30 + i, 40, 3), np.uint8)).save(file)
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "classification", folder / "classification")
    for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["dataset"] = "pets"
    params["network"]["pyramid"] = [2, 1]
    params["pretrain"] |= {"iterations": 3, "batch": 4, "sizes_px": [64, 48]}
    params["scenes"] |= {"n_train": 2, "n_test": 2, "classification_train": 20, "classification_val": 20}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    checkout = Checkout(folder, environment)
    checkout("git", "init", "-q")
    checkout.dvc("init", "-q")
    checkout("rcnn", "dataset", "import", "folders", str(tmp_path / "pictures"), "--name", "pets")
    said = checkout.dvc("repro", "classification/dvc.yaml")
    ran = re.findall(r"> rcnn run (\w+)", said)  # DVC orders those that wait for the same as it likes
    assert sorted(ran[:2]) == ["manifest", "pretrain"] and sorted(ran[2:]) == ["classify", "classify_svm"]
    assert "> rcnn run" not in checkout.dvc("repro", "classification/dvc.yaml")
    shown = checkout.dvc("metrics", "show")
    assert "8_crops_2_full.top1_error" in shown and "fc7.mAP_area" in shown
    refused = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    lines = [line for line in refused.stderr.splitlines() if line.startswith("rcnn: ")]
    assert refused.returncode != 0
    assert len(lines) == 1 and "dataset pets has one class per picture and no boxes" in lines[0]


@pytest.mark.slow
@pytest.mark.parametrize("pictures", ["beside", "project/inside"])
def test_an_experiment_in_a_copy_of_the_project(environment: dict[str, str], tmp_path: Path, pictures: str) -> None:
    """`dvc exp run --temp`, as docs/own-data.md has it: the list of pictures is copied, all else is found."""
    rng = np.random.default_rng(0)
    for split in ("train", "valid"):
        for i in range(2):
            file = tmp_path / pictures / "images" / split / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (60, 80, 3), np.uint8)).save(file)
            label = tmp_path / pictures / "labels" / split / f"{i}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / pictures / "classes.txt").write_text("cat\n")
    folder = tmp_path / "project"
    folder.mkdir(exist_ok=True)
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, folder)
    (folder / ".gitignore").write_text("/artifacts/\n/inside/\n")
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["dataset"], params["manifest"]["test"] = "pets", "valid"
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    checkout = Checkout(folder, environment)
    checkout("git", "init", "-q")
    checkout.dvc("init", "-q")
    checkout("rcnn", "dataset", "import", "yolo", str(tmp_path / pictures), "--name", "pets")
    checkout.dvc("repro", "-q", "proposals")
    checkout("git", "add", ".")
    checkout("git", "commit", "-q", "-m", "Baseline")
    before = len(checkout.objects())
    run = ("exp", "run", "--temp", "-C", "artifacts/datasets/pets", "-S", "proposals.max_proposals=9", "proposals")
    assert "Ran experiment" in checkout.dvc(*run)
    assert len(checkout.objects()) == 2 * before > 0  # in the project's own store


@pytest.mark.slow
def test_the_example_that_tunes_the_svms(mine: tuple[Checkout, list[str]]) -> None:
    checkout, _ = mine
    script = Path(checkout.environment["PATH"].split(":")[0]) / "dvc"
    script.write_text(f"#!{sys.executable} -Wignore\nimport sys\nfrom dvc.cli import main\nsys.exit(main())\n")
    script.chmod(0o755)
    checkout("git", "add", ".")
    checkout("git", "commit", "-q", "--allow-empty", "-m", "Results")
    before = {name for name in checkout.objects() if name.startswith("features")}
    said = checkout(sys.executable, str(ROOT / "examples/tune_svm.py"), ".", "0.01")
    assert re.search(r"svm\.C 0\.01: mAP 0\.\d{3} \(experiment C-0\.01\)", said)
    assert {name for name in checkout.objects() if name.startswith("features")} == before
