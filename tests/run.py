"""The whole suite in two processes side by side, since either keeps but one core busy: ``python tests/run.py``.

One has the tests that run whole pipelines in processes of their own, the other all the rest. What the first says
follows when both are through. Options are pytest's and go to both; the exit status is the first that is not 0.
"""

import subprocess
import sys
import tempfile

PIPELINES = ("tests/end_to_end", "tests/faults", "tests/fuzz")


def main(options: list[str]) -> int:
    """Run both; pytest's exit status."""
    pytest = [sys.executable, "-m", "pytest"]
    with tempfile.TemporaryFile() as said:
        # not in a shell's background, where Ctrl-C would be ignored, by the tests' own processes too
        first = subprocess.Popen(
            [*pytest, *PIPELINES, "-p", "no:cacheprovider", *options], stdout=said, stderr=subprocess.STDOUT
        )
        rest = subprocess.run([*pytest, *(f"--ignore={folder}" for folder in PIPELINES), *options], check=False)
        status = first.wait()
        said.seek(0)
        sys.stdout.write(said.read().decode(errors="replace"))
    return status or rest.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
