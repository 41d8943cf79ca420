"""``RESULTS.md``: one section per device, a table of figures, with machine and versions."""

import datetime
import importlib.metadata
import platform
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import CORES, Figure

_PACKAGES = (
    "numpy",
    "scipy",
    "scikit-learn",
    "torch",
    "torchvision",
    "opencv-contrib-python-headless",
    "numba",
    "zarr",
)
_HEADER = "| what | this | peer or limit, same run | ratio | reach | reached | note |\n|---|---|---|---|---|---|---|\n"
_INTRODUCTION = """# Results

Written by `make bench` and `make bench-gpu`; not by hand. A ratio says how many times as fast (or as good) this is as
its peer or limit, both measured in turn in one run on the machine named; larger is better.
"""
_TITLES = {"cpu": "CPU", "cuda": "GPU"}


def machine(device: str) -> str:
    """One line: processor, cores, GPU, Python and the packages whose speed matters."""
    versions = []
    for name in _PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"no {name}")
    gpu = []
    if device == "cuda":
        import torch

        gpu = [torch.cuda.get_device_name()]
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    parts = [today, _commit(), _processor(), f"{CORES} cores", *gpu, f"Python {platform.python_version()}", *versions]
    return ", ".join(parts)


def write_results(path: Path, device: str, machine_line: str, figures: Sequence[Figure]) -> None:
    """Replace the section of ``device``; the other stays."""
    sections = _sections(path)
    sections[device] = f"\n{machine_line}\n\n{_HEADER}{''.join(map(_row, figures))}"
    path.write_text(_INTRODUCTION + "".join(f"\n## {_TITLES[d]}\n{sections[d]}" for d in _TITLES if d in sections))


def _row(figure: Figure) -> str:
    ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
    reach = "" if figure.reach is None else f"{figure.reach:g}"
    cells = (figure.what, figure.ours, figure.peer, ratio, reach, figure.reached, figure.note)
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |\n"


def _sections(path: Path) -> dict[str, str]:
    text = path.read_text() if path.exists() else ""
    parts = re.split(r"^## (.*)\n", text, flags=re.MULTILINE)[1:]
    named = {title: device for device, title in _TITLES.items()}
    return {named[title]: body.rstrip("\n") + "\n" for title, body in zip(parts[::2], parts[1::2], strict=True)}


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def _commit() -> str:
    asked = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return f"commit {asked.stdout.strip()}" if asked.returncode == 0 else "no commit"
