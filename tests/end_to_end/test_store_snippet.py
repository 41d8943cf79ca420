"""The Python that docs/store.md shows runs on a finished project and gives what it says."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "store.md"


def test_the_documented_way_to_features(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code.replace("1000, 1064", "3, 9"), names)  # the test's images have fewer regions
    view = names["view"]
    features = np.concatenate([image.features for image in view])
    assert features.dtype == np.float16
    assert len(view.image_ids) == len(names["dataset"].split("test"))
    np.testing.assert_array_equal(view.rows(3, 9), features[3:9])
    np.testing.assert_array_equal(view.image(view.image_ids[1]).features, view[1].features)
    np.testing.assert_array_equal(view.array().compute(), features)
