"""``rcnn dataset duplicates``: what it finds, writes and refuses."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_files import put, voc_object, voc_xml
from PIL import Image

from manifests import ReadOptions, import_dataset

Run = Callable[..., tuple[int, str, str]]
DATA = Path(__file__).parents[2] / "../shared/data"


def picture(seed: int, size: tuple[int, int] = (60, 80)) -> Image.Image:
    """A picture of patches, as unlike another one's as photographs are."""
    patches = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(patches).resize(size[::-1], Image.Resampling.BICUBIC)


def dataset(project: Path, name: str, seeds: Sequence[int], test: Sequence[int], ids: bool = True) -> Path:
    """Import a VOC dataset of pictures ``0.png``, ... of these seeds; those numbered in ``test`` are its test split."""
    root = project / "data" / name
    for number, seed in enumerate(seeds):
        body = f"<source><flickrid>{seed}</flickrid></source>" if ids else ""
        xml = voc_xml(body + voc_object("cat", (1, 1, 30, 30)), 80, 60)
        put(root, {f"Annotations/{number}.xml": xml, f"JPEGImages/{number}.png": b""})
        picture(seed).save(root / f"JPEGImages/{number}.png")
    numbers = set(range(len(seeds)))
    for split, members in (("train", numbers - set(test)), ("test", set(test))):
        put(root, {f"ImageSets/Main/{split}.txt": "".join(f"{number}\n" for number in sorted(members))})
    import_dataset("voc", root, name, ReadOptions(), project / "artifacts")
    return root


def pairs(out: Path) -> list[tuple[str, str, bool]]:
    found = json.loads((out / "duplicates.json").read_text())["pairs"]
    return [(pair["a"]["image"], pair["b"]["image"], pair["marked"]) for pair in found]


def marked(out: Path) -> set[tuple[str, str]]:
    return {(a, b) for a, b, is_marked in pairs(out) if is_marked}


def test_each_method_finds_its_twins(run: Run, project: Path) -> None:
    root = dataset(project, "cats", [10, 11, 12, 13, 10, 15, 16, 17], test=[4, 5])
    picture(13).resize((40, 30), Image.Resampling.BOX).resize((80, 60)).save(root / "JPEGImages/5.png")  # a poor copy
    code, _, err = run("-C", project, "dataset", "refresh", "cats")
    assert code == 0, err
    out = project / "out"
    for method, expected in (("sha256", {("0.png", "4.png")}), ("id", {("0.png", "4.png")})):
        code, said, err = run("-C", project, "dataset", "duplicates", "cats", "--method", method, "--out", out)
        assert code == 0 and "1 pair marked, 1 of them in two splits" in said, err
        assert marked(out) == expected
    code, said, err = run("-C", project, "dataset", "duplicates", "cats", "--out", out)
    assert code == 0, err
    assert marked(out) == {("0.png", "4.png"), ("3.png", "5.png")}
    lines = [line for line in (out / "drop.txt").read_text().splitlines() if not line.startswith("#")]
    assert lines == ["4.png", "5.png"]
    with Image.open(out / "duplicates.png") as sheet:
        assert sheet.width > 600
    assert said.splitlines()[1].split() == ["0.000", "yes", "0.png", "(train)", "4.png", "(test)"]
    # a second call computes nothing, and the list is one that gc keeps
    code, _, err = run("-C", project, "dataset", "duplicates", "cats", "--out", out)
    assert code == 0 and "0 images computed, 7 found in the store" in err
    code, said, err = run("-C", project, "cache", "gc", "--grace", "0")
    assert code == 0 and said.startswith("0 entries") and "7 kept" in said, said + err


def test_the_list_names_what_the_project_does_not_train_on(run: Run, project: Path) -> None:
    dataset(project, "cats", [1, 2, 3, 1], test=[3])
    params, out = project / "params.yaml", project / "out"
    text = params.read_text()
    call = ("-C", project, "dataset", "duplicates", "cats", "--method", "sha256", "--out", out)
    for name, train, expected in (("cats", "test", "0.png"), ("cats", "train", "3.png"), ("dogs", "test", "3.png")):
        changed = text.replace("dataset: scenes", f"dataset: {name}").replace("  train: train ", f"  train: {train} ")
        params.write_text(changed)
        code, _, err = run(*call)
        assert code == 0, err
        assert (out / "drop.txt").read_text().splitlines()[-1] == expected


def test_only_looks_need_a_project(run: Run, project: Path) -> None:
    dataset(project, "cats", [1, 2, 1], test=[2])
    (project / "params.yaml").unlink()
    call = ("-C", project, "dataset", "duplicates", "cats")
    for method in ("sha256", "id"):
        code, _, err = run(*call, "--method", method, "--out", project / method)
        assert code == 0 and (project / method / "drop.txt").read_text().endswith("\n2.png\n"), err
    code, _, err = run(*call, "--out", project / "gist")
    assert code == 2 and "params.yaml" in err.splitlines()[-1] and "Traceback" not in err
    assert not (project / "gist").exists()


def test_two_datasets_by_a_table_of_ids_and_by_looks(run: Run, project: Path) -> None:
    dataset(project, "cats", [1, 2, 3], test=[0])
    dataset(project, "dogs", [7, 2, 8, 9], test=[0], ids=False)
    out, table = project / "out", put(project, {"ids.csv": "image,id\n2,3\n3,77\n"}) / "ids.csv"
    call = ("-C", project, "dataset", "duplicates", "cats", "dogs", "--out", out)
    code, _, err = run(*call, "--method", "id", "--ids", f"dogs={table}")
    assert code == 0 and marked(out) == {("2.png", "2.png")}, err
    code, _, err = run(*call)
    assert code == 0 and marked(out) == {("1.png", "1.png")}, err
    assert (out / "drop.txt").read_text().endswith("# 0.000 from 1.png (train)\n1.png\n")


def test_bad_input_is_one_line_and_nothing_of_the_users_is_replaced(run: Run, project: Path) -> None:
    dataset(project, "cats", [1, 2], test=[0], ids=False)
    out = project / "out"
    call = ("-C", project, "dataset", "duplicates")
    refused: list[tuple[Sequence[Any], str]] = [
        (("cats", "cats"), "B is cats, as A is"),
        (("cats", "birds"), "dataset 'birds' is not registered"),
        (("cats", "--method", "id"), "none of its images has an id; give --ids cats=FILE"),
        (("cats", "--method", "id", "--ids", "birds=x"), "--ids birds=x: write DATASET=FILE"),
        (("cats", "--method", "id", "--ids", "cats=absent.csv"), "absent.csv: there is no such file"),
        (("cats", "--ids", "cats=x"), "--ids is for --method id"),
        (("cats", "--method", "sha256", "--below", ".2"), "--below is for --method gist"),
        (("cats", "--method", "id", "--nearest", "1"), "--nearest is for --method gist"),
        (("cats", "--below", "nan"), "--below nan: is no number"),
    ]
    for arguments, wrong in refused:
        code, _, err = run(*call, *arguments, "--out", out)
        assert code == 2 and wrong in err and len(err.splitlines()) == 1, err
        assert not out.exists(), arguments
    put(out, {"drop.txt": "mine\n"})
    code, _, err = run(*call, "cats", "--out", out)
    assert code == 2 and "drop.txt: would be replaced" in err
    assert (out / "drop.txt").read_text() == "mine\n"
    code, _, err = run(*call, "cats", "--out", project / "data/cats/JPEGImages")
    assert code == 2 and "nothing was written" in err


def test_images_without_an_id_are_counted(run: Run, project: Path) -> None:
    dataset(project, "cats", [1, 2, 3, 4, 5], test=[0])
    dataset(project, "dogs", [1, 2, 3], test=[0])
    table = put(project, {"some.csv": "image,id\n./JPEGImages/0.png,7\n1.png,7\n2.png,\n"}) / "some.csv"
    call = ("-C", project, "dataset", "duplicates", "cats", "--method", "id", "--out", project / "out")
    code, said, err = run(*call, "--ids", f"cats={table}")
    assert code == 0 and said.splitlines()[-1].startswith("1 pair marked"), err
    assert err.splitlines()[0] == "note: dataset cats: 3 of 5 images have no id and were not compared"
    code, _, err = run(*call)
    assert code == 0 and "note" not in err
    code, _, err = run(*call[:4], "dogs", *call[4:], "--ids", f"cats={table}")
    assert code == 0 and [line for line in err.splitlines() if "note" in line] == [
        "note: dataset cats: 3 of 5 images have no id and were not compared"
    ]


def test_nothing_is_written_before_everything_is_made(run: Run, project: Path) -> None:
    """A picture that is gone is found when the pairs are drawn."""
    root = dataset(project, "cats", [1, 2, 1], test=[2])
    (root / "JPEGImages/2.png").unlink()
    call = ("-C", project, "dataset", "duplicates", "cats", "--method", "sha256", "--out", project / "out")
    code, _, err = run(*call)
    assert code == 2 and "2.png" in err and not (project / "out").exists()


def test_a_sheet_without_pairs_says_so(run: Run, project: Path) -> None:
    """It replaces that of a former search, which had one."""
    dataset(project, "cats", [1, 2, 1], test=[2])
    out = project / "out"
    call = ("-C", project, "dataset", "duplicates", "cats", "--method", "sha256", "--out", out)
    assert run(*call)[0] == 0
    with Image.open(out / "duplicates.png") as sheet:  # two pictures of 320 x 240 on a line of text
        assert sheet.size == (658, 6 + 240 + 17 + 6)
    dataset(project, "cows", [1, 2], test=[0])
    code, _, err = run(*call[:4], "cows", *call[5:])
    assert code == 0 and json.loads((out / "duplicates.json").read_text())["pairs"] == [], err
    with Image.open(out / "duplicates.png") as sheet:
        pixels = np.asarray(sheet)
        assert sheet.width == 658 and sheet.height < 40 and (pixels < 100).sum() > 200  # black letters


@pytest.mark.parametrize(
    ("name", "form", "path", "expected"),
    [
        ("raccoon", "voc", "raccoon", {(11, 116), (21, 45), (50, 52), (50, 74), (51, 85), (83, 120), (186, 199)}),
        ("bccd", "voc", "bccd", {(386, 391), (37, 38)}),
        ("coco128", "coco", "coco128/instances.json", set()),
    ],
)
def test_real_photographs(
    run: Run, project: Path, name: str, form: str, path: str, expected: set[tuple[int, int]]
) -> None:
    """Twins in two splits; of raccoon 83 = 120 are equal bytes, as 11 = 116 are."""
    if not (DATA / path).exists():
        pytest.skip("the photographs are not beside this checkout (shared/data)")
    import_dataset(form, DATA / path, name, ReadOptions(on_error="skip"), project / "artifacts")
    code, _, err = run("-C", project, "dataset", "duplicates", name, "--top", 0, "--out", project / "out")
    assert code == 0, err
    found = json.loads((project / "out/duplicates.json").read_text())["pairs"]
    ends = [(pair["a"], pair["b"]) for pair in found if pair["a"]["split"] != pair["b"]["split"]]
    numbers = [[int("".join(filter(str.isdigit, one["image"]))) for one in pair] for pair in ends]
    assert {(min(pair), max(pair)) for pair in numbers} == expected
