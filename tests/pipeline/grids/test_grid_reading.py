"""A grid's file: what it may say, and that each thing that is wrong in it is a line that names the file and the key."""

from pathlib import Path

import pytest

from cache.errors import ParamsError
from pipeline.cli import main
from pipeline.grids.declared import Given, Need, Times
from pipeline.grids.reading import read_grid

WHOLE = """
title: "A table:
  of two rows"
roles: {mine: fast}
detector: mine
seeds: [3, 4]
figures: [mAP, paper]
protocol: voc2007
times: {node: rcnn/features, parts: [conv, fc], beside: b}
rows:
  one: &one
    title: first
    labels: {at most: 300}
    scopes: [both]
    set: &more {svm.C: 1, mine/fast.lr: 0.5}
    needs: {proposals.file.path: it is yours, manifest.train: {anew: a list}}
    paper: {a: 1, b: 2.5}
  two:
    set: {<<: *more, svm.C: null}
    detector: rcnn
    target: proposals
columns:
  a: {set: {features.layers: [fc7]}}
  b:
cells:
  - {rows: [one], columns: [b], set: {svm.C: 7}}
  - {set: {seed: 1}}
"""
SMALL = "title: t\nrows: {a: {set: {svm.C: 1}}}\n"


def wrote(folder: Path, text: str | bytes, name: str = "grid.yaml") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    path = wrote(tmp_path, WHOLE)
    grid = read_grid(path)
    assert (grid.name, grid.title, grid.protocol) == ("grid", "A table: of two rows", "voc2007")
    assert (grid.seeds, grid.figures, grid.roles) == ([3, 4], ["mAP", "paper"], {"mine": "fast"})
    assert grid.times == Times("rcnn/features", ["conv", "fc"], "b")
    one = grid.cell("one", "b")
    assert [(given.name, given.value) for given in one.settings] == [("svm.C", 7), ("mine/fast.lr", 0.5), ("seed", 1)]
    assert one.settings[0] == Given("svm.C", 7, f"{path}: cells[0].set")
    assert (one.detector, one.target, one.scopes) == ("mine", "", frozenset({"both"}))
    assert one.needs == [Need("proposals.file.path", "it is yours"), Need("manifest.train", "a list", anew=True)]
    two = grid.cell("two", "a")
    assert (two.detector, two.target) == ("rcnn", "proposals")
    found = [(given.name, given.value) for given in two.settings]
    assert found == [("svm.C", None), ("mine/fast.lr", 0.5), ("features.layers", ["fc7"]), ("seed", 1)]
    assert (grid.rows["one"].title, grid.rows["two"].title, grid.columns["b"].title) == ("first", "two", "b")
    assert grid.rows["one"].labels == {"at most": "300"} and grid.rows["one"].paper == {"a": "1", "b": "2.5"}


WRONG = [
    ("rows: {a: {}}\ncolums: {}", "colums: unknown key (did you mean 'columns'?)"),
    ("rows: {a: {sets: {}}}", "rows.a.sets: unknown key (did you mean 'set'?)"),
    ("title: t", "rows: there are none; name them, or say `rows: detectors`"),
    ("rows: [a]", "rows: must be a mapping of names, found list"),
    ("rows: {300: {}}", "rows: 300: a name is a text of letters, digits, '_' and '-', in quotes where YAML takes it "),
    ("rows: {all: {}}", "rows: 'all': a name is a text"),
    ("rows: {a/b: {}}", "rows: 'a/b': a name is a text"),
    ("rows: {a: {}}\ncolumns: {}", "columns: there are none; name them, or leave the key out"),
    ("rows: {a: 3}", "rows.a: must be a mapping of title, labels, set, "),
    ("rows: {a: {set: [svm.C]}}", "rows.a.set: must be a mapping of parameters"),
    ("rows: {a: {set: {svm.C: {b: 1}}}}", "rows.a.set.svm.C: a value is a text, number, truth, null or a list of such"),
    ("rows: {a: {set: {svm.C: 2020-01-01}}}", "rows.a.set.svm.C: a value is a text, number, truth, null or a list"),
    ("rows: {a: {set: {1: 2}}}", "rows.a.set: 1 is no parameter's name"),
    ("rows: {a: {detector: fast}}", "rows.a.detector: there is no role 'fast'"),
    (
        "rows: {a: {paper: {p16: 1}}}\ncolumns: {p15: {}}",
        "rows.a.paper: there is no column 'p16' (did you mean 'p15'?)",
    ),
    ("rows: {a: {needs: {svm.C: 3}}}", "rows.a.needs.svm.C: must be a text, found 3; put quotes"),
    ("rows: {a: {}}\nroles: {x: fats}", "roles.x: there is no kind of detector 'fats' (did you mean 'fast'?)"),
    ("rows: {a: {}}\nfigures: [map]", "figures: there is no figure 'map' (did you mean 'mAP'?)"),
    ("rows: {a: {}}\nfigures: mAP", "figures: must be a list, found str"),
    ("rows: {a: {}}\nprotocol: voc2012", "protocol: there is no protocol 'voc2012' (did you mean 'voc2010'?)"),
    ("rows: {a: {}}\nseeds: 3", "seeds: must be a list of at most 100 whole numbers, each once, such as [3, 4, 5]"),
    ("rows: {a: {}}\nseeds: [3, 3]", "seeds: must be a list"),
    ("rows: {a: {}}\nseeds: [true]", "seeds: must be a list"),
    ("rows: {a: {}}\ncells: [{rows: [b]}]", "cells[0].rows: there is no row 'b'; a"),
    ("rows: detectors\ncells: []", "cells: says of which rows, and there are none; name them"),
    ("rows: {a: {}}\ntimes: {node: features}", "times: needs node, as DETECTOR/NODE, and the parts of its time"),
    ("rows: {a: {}, a: {}}", "line 1: has the key 'a' twice; name it once"),
    ("rows: {a: {set: {svm.C: 1, svm.C: 2}}}", "line 1: has the key 'svm.C' twice; name it once"),
    ("[1, 2", "is not well-formed YAML"),
    ("- a", "must be a mapping of title, rows, columns, "),
    ("", "is empty; docs/grids.md says what a grid's file holds"),
    ("rows: !!python/object/apply:os.getcwd []", "is not well-formed YAML"),
    (b"\xff\xfe\xff", "save the file as UTF-8"),
]


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_what_is_wrong_is_a_line_that_names_the_file(tmp_path: Path, text: str | bytes, said: str) -> None:
    path = wrote(tmp_path, text)
    with pytest.raises(ParamsError) as error:
        read_grid(path)
    lines = str(error.value).splitlines()
    assert any(said in line for line in lines), lines
    assert all(line.startswith(f"{path}: ") for line in lines)


@pytest.mark.parametrize(
    ("rows", "columns", "said"),
    [
        ("{fc6: {}, fc7: {}}", "{fc7: {}, b: {}}", "columns.fc7: is a row's name, too; --set would reach both"),
        (
            "{a: {}, a-b: {}}",
            "{c: {}, b-c: {}}",
            "rows: the experiments of a, b-c and a-b, c would both be called a-b-c; use '_' in a name",
        ),
    ],
)
def test_names_that_mean_two_things_are_refused(tmp_path: Path, rows: str, columns: str, said: str) -> None:
    path = tmp_path / "g.yaml"
    path.write_text(f"rows: {rows}\ncolumns: {columns}\n")
    with pytest.raises(ParamsError) as error:
        read_grid(path)
    assert said in str(error.value)


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ParamsError) as error:
        read_grid(wrote(tmp_path, "colour: red\nrows: {a: {sat: {}}, b: {paper: {x: 1}}}\nseeds: [-1]\n"))
    keys = [line.split(": ")[1] for line in str(error.value).splitlines()]
    assert keys == ["colour", "rows.a.sat", "rows.b.paper", "seeds"]


def test_values_that_grow_without_bound_are_refused(tmp_path: Path) -> None:
    """Nine lists of ten of the one before: a text of gigabytes where it is written out."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(ParamsError) as error:
        path = wrote(tmp_path, "\n".join([*lines, "rows: {a: {title: *a8, set: {svm.C: *a8}, labels: {x: *a8}}}"]))
        read_grid(path)
    told = [line.partition(": rows.a.")[2] for line in str(error.value).splitlines() if "rows.a" in line]
    assert told == [
        "title: must be a text, found list",
        "labels: must be a word or a number, found list",
        "set.svm.C: a value is a text, number, truth, null or a list of such",
    ]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("crop.yaml", "crop.yaml: not found (did you mean 'crops.yaml'?); name a grid's file"),
        ("crops.json", "a grid is a file NAME.yaml"),
        (".yaml", "a grid is a file NAME.yaml"),
        ("a b.yaml", "a grid is a file NAME.yaml"),
    ],
)
def test_a_file_that_is_none_is_one_line_and_exit_code_2(
    tmp_path: Path, name: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrote(tmp_path, SMALL, "crops.yaml")
    monkeypatch.setattr("sys.argv", ["rcnn", "grid", str(tmp_path / name)])
    with pytest.raises(SystemExit, match="2"):
        main()
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
