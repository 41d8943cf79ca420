"""RESULTS.md: what is written is read back, and each device's section is its own."""

from benchmarks.harness import Figure, fitted_exponent, median_ratio, take_turns
from benchmarks.results import read_rows, write_results

ROWS = {
    "svm": [
        Figure("SVMs, 20 classes", "3.1 s", "liblinear 40 s", 12.9, 10, "same objective"),
        Figure("peak memory", "1,234 MiB"),
    ],
    "ridge": [Figure("regressors", "1 s", "scikit-learn 2 s", 2.0, 10)],
}


def test_rows_survive_being_written(tmp_path):
    path = tmp_path / "RESULTS.md"
    write_results(path, "cpu", "a machine", ROWS)
    assert read_rows(path, "cpu") == ROWS
    assert "| yes | same objective" in path.read_text()
    assert "| no |  " in path.read_text()


def test_sections_do_not_touch_each_other(tmp_path):
    path = tmp_path / "RESULTS.md"
    write_results(path, "cuda", "a GPU", {"svm": ROWS["svm"]})
    write_results(path, "cpu", "a machine", ROWS)
    assert read_rows(path, "cuda") == {"svm": ROWS["svm"]}
    before = path.read_text()
    write_results(path, "cuda", "a GPU", read_rows(path, "cuda"))
    assert path.read_text() == before


def test_no_file_has_no_rows(tmp_path):
    assert read_rows(tmp_path / "RESULTS.md", "cpu") == {}


def test_turns_alternate():
    order = []
    times = take_turns(lambda: order.append("a"), lambda: order.append("b"), rounds=3)
    assert order == ["a", "b"] * 4
    assert [len(t) for t in times] == [3, 3]


def test_ratio_is_the_median_of_the_rounds():
    assert median_ratio([2.0, 9.0, 40.0], [1.0, 3.0, 10.0]) == 3


def test_exponent_of_a_square():
    assert abs(fitted_exponent([1, 2, 4, 8], [3, 12, 48, 192]) - 2) < 1e-12
