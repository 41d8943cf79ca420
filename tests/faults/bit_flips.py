"""Flip random bits of finished projects' objects, one at a time: ``verify`` must name that object, and no other.

python tests/faults/bit_flips.py --flips 1000 --seed 0
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]

from tiny_project import (  # noqa: E402
    CLASSIFYING,
    HEAD_NAMES,
    REGION_KINDS,
    SEGMENTING,
    StageServer,
    make_classifying,
    make_project,
    make_regions,
    region_nodes,
    run_of,
)

from cache import Store  # noqa: E402
from cache.listing import entries  # noqa: E402
from cache.maintenance import verify  # noqa: E402


def flip(path: Path, bit: int) -> None:
    """Turn one bit of a file over."""
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    mode = path.stat().st_mode
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(mode)


def flip_and_verify(store: Store, flips: int, rng: random.Random) -> Counter[str]:
    """Number of flips found, by ``STAGE FILE``; AssertionError at the first that ``verify`` does not find."""
    found: Counter[str] = Counter()
    objects = [(entry.kind, entry.key) for entry in entries(store)]
    for _ in range(flips):
        stage, key = rng.choice(objects)
        path = rng.choice(sorted(p for p in store.path(stage, key).rglob("*") if p.is_file() and p.stat().st_size))
        bit = rng.randrange(8 * path.stat().st_size)
        flip(path, bit)
        problems = verify(store).problems
        named = [(problem.stage, problem.key, problem.damaged) for problem in problems]
        assert named == [(stage, key, True)], f"bit {bit} of {path}: {problems}"
        found[f"{stage} {path.name}"] += 1
        flip(path, bit)
    assert verify(store).problems == ()
    return found


def _run(server: StageServer, project: Path, stages: tuple[str, ...]) -> None:
    done = server.run(project, *run_of(*stages))
    assert done.status == 0, done.said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    begin, server = time.monotonic(), StageServer()
    with tempfile.TemporaryDirectory(prefix="rcnn-flips-") as name:
        found, rng = Counter[str](), random.Random(options.seed)
        root, pets, regions = Path(name) / "root", Path(name) / "pets", Path(name) / "regions"
        _run(server, make_project(root), SEGMENTING)
        _run(server, make_classifying(pets), CLASSIFYING)
        make_regions(regions)
        for step in (HEAD_NAMES, *map(region_nodes, REGION_KINDS)):
            _run(server, regions, step)
        # the classification stages get a fifth: two of the five that make an object for each image, and less in it
        shares = {root: 2, pets: 1, regions: 2}
        for project, share in shares.items():
            found += flip_and_verify(Store(project / "artifacts"), options.flips * share // 5, rng)
    server.close()
    for what, number in sorted(found.items()):
        print(f"{what:24} {number}")
    print(f"{found.total()} flipped bits found, {time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()
