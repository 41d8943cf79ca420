"""RESULTS.md: a row per figure, and each device's section is its own."""

from pathlib import Path

from benchmarks.harness import Figure, fitted_exponent, median_ratio, take_turns
from benchmarks.results import write_results

FIGURES = [
    Figure("SVMs, 20 classes", "3.1 s", "liblinear 40 s", 12.9, 10, "same objective | AP"),
    Figure("regressors", "1 s", "scikit-learn 2 s", 2.0, 10),
    Figure("peak memory", "1,234 MiB"),
]


def test_a_row_per_figure(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    write_results(path, "cpu", "a machine", FIGURES)
    rows = [line for line in path.read_text().splitlines() if line.startswith("|")][2:]
    assert rows == [
        "| SVMs, 20 classes | 3.1 s | liblinear 40 s | 12.90 | 10 | yes | same objective / AP |",
        "| regressors | 1 s | scikit-learn 2 s | 2.00 | 10 | no |  |",
        "| peak memory | 1,234 MiB |  |  |  |  |  |",
    ]
    assert "a machine" in path.read_text()


def test_sections_do_not_touch_each_other(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    write_results(path, "cuda", "a GPU", FIGURES[:1])
    write_results(path, "cpu", "a machine", FIGURES)
    before = path.read_text()
    assert before.index("## CPU") < before.index("a machine") < before.index("## GPU") < before.index("a GPU")
    write_results(path, "cuda", "a GPU", FIGURES[:1])
    assert path.read_text() == before
    write_results(path, "cpu", "another", FIGURES[1:])
    after = path.read_text()
    assert after[after.index("## GPU") :] == before[before.index("## GPU") :]
    assert "SVMs" not in after[: after.index("## GPU")]


def test_turns_alternate() -> None:
    order = []
    times = take_turns(lambda: order.append("a"), lambda: order.append("b"), rounds=3)
    assert order == ["a", "b"] * 4
    assert [len(t) for t in times] == [3, 3]


def test_ratio_is_the_median_of_the_rounds() -> None:
    assert median_ratio([2.0, 9.0, 40.0], [1.0, 3.0, 10.0]) == 3


def test_exponent_of_a_square() -> None:
    assert abs(fitted_exponent([1, 2, 4, 8], [3, 12, 48, 192]) - 2) < 1e-12
