"""scenes: makes the built-in dataset, handwritten digits on photographs.

``dvc repro scenes`` or ``rcnn run scenes``; about ten seconds with the default parameters. Writes
``artifacts/datasets/scenes/``: ``manifest.json``, ``source.json``, ``images/`` and ``classification.npz``.
"""

from manifests.scenes.dataset import write_scenes
from stages.contract import Context

from .settings import ScenesSettings


def run(ctx: Context) -> None:
    """Generate the dataset's folder."""
    settings = ctx.settings(ScenesSettings)
    folder = ctx.output("folder")
    dataset = write_scenes(
        folder, settings.options(), lambda done, total: ctx.log.progress(done, total, "images", "scenes")
    )
    objects = sum(len(image.labels) for image in dataset.images)
    ctx.log.info(f"{len(dataset.images)} scenes with {objects} digits")
