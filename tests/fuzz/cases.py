"""Run targets on their seeds and on cases that hypothesis draws: ``python tests/fuzz/cases.py TARGET --cases N``.

Ends with one line of JSON (cases, peak memory). A fault ends it with the exception and the case, a hang with a
traceback of where it hangs; exit code 1 either way. Of several targets each runs in a fork of its own, and gives one
line of JSON: ``target``, ``status``, and ``said``, which is all of the above.
"""

import argparse
import faulthandler
import json
import os
import sys
import tempfile
from functools import partial
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))  # where no conftest.py has

from bounds import CASE_LIMIT_S, bound_memory, peak_bytes
from forked import in_fork
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mutations import MAX_BYTES, mutate
from targets import Target, all_targets


def run_cases(target: Target, cases: int, folder: Path) -> dict[str, int]:
    """Every seed, then ``cases`` drawn ones, each under the bounds; raises what a reader should not have raised."""
    seeds = list(target.seeds())
    run = target.prepare(folder)
    run(seeds[0])  # imports what is imported late, before memory is bounded
    before = peak_bytes()
    bound_memory()
    done = 0

    def one(data: bytes) -> None:
        nonlocal done
        done += 1
        faulthandler.dump_traceback_later(CASE_LIMIT_S, exit=True)
        run(data)
        faulthandler.cancel_dump_traceback_later()

    for seed in seeds:
        try:
            one(seed)
        except Exception as error:
            error.add_note(f"seed {seed[:300]!r}")
            raise

    @settings(
        max_examples=cases,
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(st.one_of(st.randoms(use_true_random=False), st.binary(max_size=400)))
    def drawn(source: Random | bytes) -> None:
        if isinstance(source, bytes):
            one(source)
        else:
            data = mutate(source.choice(seeds)[:MAX_BYTES], seeds, target.tokens, target.tree, source)
            one(data)

    drawn()
    return {"cases": done, "peak_mb": peak_bytes() >> 20, "before_mb": before >> 20}


def run_target(name: str, cases: int) -> int:
    """Run one target in a folder of its own, and print its line; 0, for a process that ends so."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "artifacts" / "datasets" / "d"
        place.mkdir(parents=True)
        os.chdir(folder)
        print(json.dumps(run_cases(all_targets()[name], cases, place)))
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="+", choices=all_targets())
    parser.add_argument("--cases", type=int, default=200)
    given_args = parser.parse_args()
    if len(given_args.targets) == 1:
        run_target(given_args.targets[0], given_args.cases)
        return
    for name in given_args.targets:
        status, said = in_fork(partial(run_target, name, given_args.cases))
        print(json.dumps({"target": name, "status": status, "said": said}), flush=True)


if __name__ == "__main__":
    main()
