"""The SVM's objective by hand; against what the solvers say of it: their own tests."""

from stages.svm.problem import SvmProblem
from stages.svm.settings import SvmSettings


def test_objective_by_hand() -> None:
    problem = SvmProblem.of(SvmSettings(C=0.5, positive_weight=3, bias=2))
    parts = problem.objective([3.0, 4.0], 1.0, [0.5, 2.0], [-2.0, 0.25])
    assert parts.regulariser == 12.5 + 0.125  # 25 / 2, and (1 / 2)^2 / 2
    assert parts.positive_loss == 0.5 * 3 * 0.5
    assert parts.negative_loss == 0.5 * 1.25
    assert parts.total == 12.625 + 0.75 + 0.625
