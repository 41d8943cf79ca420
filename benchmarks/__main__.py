"""``python -m benchmarks [--device cuda]``: run the benchmarks and write ``benchmarks/RESULTS.md``.

Each benchmark is a process of its own, one at a time, so that memory and thread settings are its own. With names, only
those run, and nothing is written. One that fails is said to have failed; the others' figures stay.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.harness import Figure, as_text
from benchmarks.results import machine, write_results

CPU = (
    "selective_search",
    "warp",
    "features",
    "spp",
    "fast",
    "rpn",
    "faster",
    "overfeat",
    "merge",
    "halves",
    "duplicates",
    "units",
    "svm",
    "segmentation",
    "scoring",
    "diagnosis",
    "ridge",
    "suppression",
    "reading",
    "overhead",
    "pipeline",
    "growth",
)
CUDA = ("features", "spp", "segmentation", "pipeline")
RESULTS = Path(__file__).with_name("RESULTS.md")


def run(name: str, device: str) -> list[Figure]:
    """The figures of one benchmark, printed as they come; one that says so where it failed."""
    command = [sys.executable, "-m", f"benchmarks.bench_{name}", "--json", "--device", device]
    found = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            found.append(Figure(**json.loads(line)))
            print(as_text(found[-1]), flush=True)
    if process.returncode or not found:
        found.append(Figure(f"benchmark {name}", f"failed with status {process.returncode}"))
        print(as_text(found[-1]), file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(CPU)} (on cuda: {', '.join(CUDA)})")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args()
    known = CPU if arguments.device == "cpu" else CUDA
    if unknown := set(arguments.names) - set(known):
        parser.error(f"no benchmark {', '.join(sorted(unknown))} on {arguments.device}; there are {', '.join(known)}")
    figures: list[Figure] = []
    for name in arguments.names or known:
        begin = time.monotonic()
        figures += run(name, arguments.device)
        print(f"  [{name}: {time.monotonic() - begin:.0f} s]", flush=True)
        if not arguments.names:
            write_results(RESULTS, arguments.device, machine(arguments.device), figures)


if __name__ == "__main__":
    main()
