"""Running ``rcnn`` of this checkout on a project in another folder."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from pipeline.params import schema

ROOT = Path(__file__).parents[1]


def default_params() -> dict[str, Any]:
    """Every parameter at its default, for the built-in dataset: this checkout's params.yaml may be a user's."""
    params: dict[str, Any] = schema()(dataset="scenes").model_dump(mode="json")
    return params


def rcnn(project: Path, *arguments: str) -> None:
    """Run a command in a process of its own, as a user does; its message on failure."""
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", "-C", str(project), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"rcnn {' '.join(arguments)}: {done.stderr}")
