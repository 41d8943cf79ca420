"""The copies of a project in which DVC runs experiments: `dvc exp run --temp` and `--queue`.

A copy holds what git tracks, and what DVC tracks and has in its cache; of all else it knows nothing. It is removed when
the experiment ends.
"""

from pathlib import Path

_COPIES = (".dvc", "tmp", "exps")
_ALONE = "standalone"  # of --temp; those of the queue lie a folder higher


def original(path: Path) -> Path:
    """Give the path in the project itself, of one that lies in a copy; any other is its own.

    ``/p/.dvc/tmp/exps/standalone/tmpab12/data/1.jpg`` and ``/p/.dvc/tmp/exps/tmpab12/data/1.jpg`` -> ``/p/data/1.jpg``.
    """
    absolute = path.absolute()
    parts = absolute.parts
    for at in range(len(parts) - len(_COPIES), 0, -1):
        if parts[at : at + len(_COPIES)] == _COPIES:
            inside = parts[at + len(_COPIES) :]
            inside = inside[1:] if inside[:1] == (_ALONE,) else inside
            return Path(*parts[:at], *inside[1:]) if inside else path
    return path
