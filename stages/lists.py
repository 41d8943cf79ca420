"""Lists of other stages' objects, as a stage reads them: refused where they are of other images."""

from pathlib import Path

from cache import Artifact, digest_file
from cache.errors import StageError


def of_dataset(found: Artifact, manifest: Path, shown: str) -> Artifact:
    """Return a list as it is; StageError, naming it as ``shown``, where another dataset manifest than this made it."""
    if found.inputs.get("manifest") != digest_file(manifest):
        raise StageError(f"{shown}: made of another dataset or of other images; run `dvc repro`, which makes it anew")
    return found
