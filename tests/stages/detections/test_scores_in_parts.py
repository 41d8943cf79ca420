"""Scores of some classes at a time against scores at once."""

import numpy as np
import pytest

from stages.svm import classifier
from stages.svm.classifier import Classifier


@pytest.mark.parametrize("n_classes", [1, 3, 5])
@pytest.mark.parametrize("kind", ["svm", "softmax"])
def test_scores_in_parts_are_the_scores(monkeypatch: pytest.MonkeyPatch, n_classes: int, kind: str) -> None:
    monkeypatch.setattr(classifier, "_CLASSES_AT_ONCE", 2)  # parts of two and three
    monkeypatch.setattr(classifier, "FEW", 0)
    rng = np.random.default_rng(n_classes)
    w, b = rng.random((n_classes, 40), np.float32), rng.random(n_classes, np.float32)
    background = rng.random(40, np.float32) if kind == "softmax" else None
    model = Classifier(kind, "fc7", tuple("abcde"[:n_classes]), 0.3, w, b, background, 0.2)
    features = rng.random((30, 40)).astype(np.float16)
    together = np.full((n_classes, 30), np.nan, np.float32)
    for first, part in model.class_blocks(features):
        assert part.flags.c_contiguous and part.dtype == np.float32
        assert np.isnan(together[first : first + len(part)]).all()
        together[first : first + len(part)] = part
    np.testing.assert_allclose(together.T, model.scores(features), rtol=1e-6)
