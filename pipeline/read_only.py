"""A stage on a store that this user may only read: it runs where it has nothing to write there."""

from collections.abc import Sequence

from cache import Artifact, Store, StoreError, StorePermissionError
from stages.contract import ImageTask, Log


def require_all(store: Store, tasks: Sequence[ImageTask], refused: StorePermissionError) -> None:
    """Nothing, where the store has every task's object; StoreError where one would have to be written."""
    stages = {task.recipe.stage for task in tasks}
    lacking = {
        stage: store.missing(stage, (task.recipe.key for task in tasks if task.recipe.stage == stage))
        for stage in stages
    }
    for stage, keys in sorted(lacking.items()):
        if keys:
            raise lacks(store, stage, len(keys)) from refused


def lacks(store: Store, stage: str, count: int) -> StoreError:
    """What to tell a user who would have to write objects into a store that they may only read."""
    return StoreError(
        f"{store.root}: this user may only read this store, and it lacks {count} objects of {stage}; give this user "
        "write permission, or use another store folder (store.root, RCNN_STORE)"
    )


def register_if_allowed(store: Store, artifact: Artifact, log: Log) -> None:
    """Keep a manifest of objects that were all there before; a warning where that is refused."""
    try:
        store.register(artifact)
    except StorePermissionError:
        log.warning(
            f"{store.root}: this user may only read this store, so that `rcnn cache gc` by its owner does not know "
            f"that these {artifact.stage} objects are in use"
        )
