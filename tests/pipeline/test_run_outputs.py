"""What becomes of a stage's outputs and of what led to them."""

import errno
from pathlib import Path

import pytest
import yaml
from toy_stage import toy_node

from cache import StoreError
from pipeline.context import RunContext
from pipeline.detectors import Layout
from pipeline.params import parse_params

PARAMS = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8"))


def context(project: Path) -> RunContext:
    outputs = {"weights": "artifacts/w/weights", "curve": "artifacts/w/curve.csv"}
    node = toy_node("w", outputs=outputs)
    return RunContext(node, Layout(project), parse_params(PARAMS), {"w": node})


def test_checkpoints_go_only_when_the_outputs_are_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = tmp_path / "checkpoint"
    checkpoint.touch()
    ctx = context(tmp_path)
    ctx.after_commit(checkpoint.unlink)
    ctx.output("weights").write_text("w")
    with pytest.raises(TypeError, match=r"did not write its output .*curve\.csv"):
        ctx.commit()
    ctx.output("curve").write_text("c")

    def full(path: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(StoreError, match="No space left"):
            ctx.commit()
    assert checkpoint.exists()
    assert not (tmp_path / "artifacts/w/weights").exists()
    ctx.commit()
    assert not checkpoint.exists()
    assert (tmp_path / "artifacts/w/weights").read_text() == "w"
