"""Coverage-guided fuzzing by atheris: ``python tests/fuzz/fuzz.py TARGET|all --seconds N [--runs N] [--seed S]``.

Prints one line per target: executions, branches and edges that the seeds left uncovered and the run found, peak memory.
Exit code 1 where a target has a fault; its input is kept in ``--keep``, and ``--replay FILE`` runs one input again.
"""

import argparse
import contextlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random

import atheris
from bounds import CASE_LIMIT_S, MEMORY_BYTES, bound_memory, peak_bytes
from mutations import MAX_BYTES, mutate
from targets import Target, all_targets

_OWN_SHARE = 0.5  # of the mutations; the rest are libFuzzer's, which knows what it has covered
_INSTRUMENTED = ["cache", "manifests", "pipeline", "stages", "PIL", "defusedxml", "zipfile"]


def fuzz(target: Target, folder: Path, arguments: list[str]) -> None:
    """Run libFuzzer in this process; it ends the process."""
    with atheris.instrument_imports(include=_INSTRUMENTED):
        seeds = [seed[:MAX_BYTES] for seed in target.seeds()]
    corpus = folder / "corpus"
    corpus.mkdir()
    for i, seed in enumerate(seeds):
        (corpus / f"{i:03d}").write_bytes(seed)
    place = folder / "project" / "artifacts" / "datasets" / "d"
    place.mkdir(parents=True)
    with atheris.instrument_imports(include=_INSTRUMENTED):
        run = target.prepare(place)
        run(seeds[0])

    def mutator(data: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < _OWN_SHARE:
            return mutate(data, seeds, target.tokens, target.tree, random)[:max_size]
        return atheris.Mutate(data, max_size)  # type: ignore[no-any-return]

    (folder / "tokens").write_text("".join(map(_token, target.tokens)), encoding="ascii")
    limits = [
        f"-timeout={CASE_LIMIT_S}",
        f"-rss_limit_mb={(peak_bytes() + MEMORY_BYTES) >> 20}",
        f"-max_len={MAX_BYTES}",
    ]
    dictionary = [f"-dict={folder / 'tokens'}"] * bool(target.tokens)
    options = ["-print_final_stats=1", *dictionary, *limits, *arguments]
    atheris.Setup([sys.argv[0], *options, str(corpus)], run, custom_mutator=mutator)
    bound_memory()
    atheris.Fuzz()


def _token(token: bytes) -> str:
    """A line of libFuzzer's dictionary; it takes tokens of up to 64 bytes."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in token) + '"\n' if len(token) <= 64 else ""


def campaign(name: str, seconds: int, runs: int, seed: int, keep: Path) -> bool:
    """Fuzz one target in a child process, and print what came of it; whether it found no fault."""
    limits = [f"-max_total_time={seconds}"] * (seconds > 0) + [f"-runs={runs}"] * (runs > 0)
    arguments = [*limits, f"-seed={seed}", f"-artifact_prefix={keep / name}-"]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, name, "--child", folder, *(f"--pass={a}" for a in arguments)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    found = dict(re.findall(r"^stat::(\w+):\s+(\d+)", done.stderr, re.MULTILINE))
    covered = [int(n) for n in re.findall(r"\bcov: (\d+)", done.stderr)] or [0]
    line = f"{name:20} {found.get('number_of_executed_units', '?'):>9} executions"
    line += f"  coverage {covered[0]} -> {covered[-1]}  new units {found.get('new_units_added', '?'):>5}"
    print(f"{line}  peak {found.get('peak_rss_mb', '?')} MiB", flush=True)
    if done.returncode:
        print(f"FAULT in {name} (exit {done.returncode}):\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}", flush=True)
    return done.returncode == 0


def main() -> int:
    # the targets' own imports, too, must be counted where they run
    with atheris.instrument_imports(include=_INSTRUMENTED) if "--child" in sys.argv else contextlib.nullcontext():
        targets = all_targets()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=["all", *targets])
    parser.add_argument("--seconds", type=int, default=0, help="of each target; 0: no limit")
    parser.add_argument("--runs", type=int, default=0, help="executions of each target; 0: no limit")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()), help="folder for inputs that fail")
    parser.add_argument("--replay", type=Path, help="run this one input instead")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--pass", dest="passed", action="append", default=[], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        os.chdir(given.child)
        fuzz(targets[given.target], given.child, given.passed)
    if given.replay:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "a" / "b" / "c"
            place.mkdir(parents=True)
            targets[given.target].prepare(place)(given.replay.read_bytes())
        return 0
    if not given.seconds and not given.runs:
        parser.error("give --seconds or --runs")
    given.keep.mkdir(parents=True, exist_ok=True)
    names = list(targets) if given.target == "all" else [given.target]
    sound = [campaign(name, given.seconds, given.runs, given.seed, given.keep.resolve()) for name in names]
    return 0 if all(sound) else 1


if __name__ == "__main__":
    sys.exit(main())
