"""Which object of a list holds an image's proposals, whoever made them: the stage ``proposals`` or an RPN."""

from cache import Artifact
from cache.errors import StageError
from manifests import ImageRecord


def proposals_key(proposals: Artifact, record: ImageRecord) -> str:
    """Return the key of an image's proposals; StageError naming the image where the list has none of it."""
    if record.id not in proposals.keys:
        raise StageError(f"{record.file_name}: no proposals for this image; run the stage {proposals.stage} again")
    return proposals.keys[record.id]
