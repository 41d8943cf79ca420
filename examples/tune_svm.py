"""Try several C of the SVMs: ``python examples/tune_svm.py PROJECT 0.0001 0.01``

Each is a DVC experiment: params.yaml as it was committed but for `svm.C`. Features are not computed again, since no
feature depends on C; `dvc exp show` has the table afterwards, and `dvc exp apply NAME` takes one.
"""

import subprocess
import sys
from pathlib import Path

import yaml


def main(project: str, *values: str) -> None:
    """Run one experiment for each value, and print each one's mean AP."""
    for value in values:
        name = f"C-{value}"
        subprocess.run(
            ["dvc", "exp", "run", "--quiet", "--name", name, "-S", f"svm.C={value}"], cwd=project, check=True
        )
        scores = yaml.safe_load((Path(project) / "reports/metrics.json").read_text(encoding="utf-8"))
        print(f"svm.C {value}: mAP {scores['voc2010']['mAP']:.3f} (experiment {name})")


if __name__ == "__main__":
    main(*sys.argv[1:])
