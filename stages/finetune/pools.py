"""The windows of a run: those of the images trained on, and those of the images held out."""

from cache.errors import StageError
from manifests import ImageRecord
from stages.boxes.geometry import Boxes
from stages.contract import Context
from stages.training.loop import generator

from .settings import FinetuneSettings
from .windows import Limits, Windows, collect, hold_out


def labelled_windows(ctx: Context, settings: FinetuneSettings) -> tuple[Windows, Windows]:
    """Ground truth and proposals of the train split, labelled: of the images trained on, and of those held out.

    ``StageError`` for an image without proposals.
    """
    dataset, artifact = ctx.dataset(), ctx.artifact("proposals")
    records = dataset.split("train")

    def proposals_of(record: ImageRecord) -> Boxes:
        if record.id not in artifact.keys:
            raise StageError(f"{record.file_name}: no proposals for this image; run the stage proposals again")
        boxes: Boxes = ctx.store.get("proposals", artifact.keys[record.id], ["boxes"]).arrays["boxes"]
        return boxes

    aside = hold_out(len(records), settings.held_out_fraction, generator(ctx.seed, "finetune", "held-out images"))
    limits = Limits(settings.fg_iou, settings.bg_iou, settings.bg_iou_low)
    training, held_out = collect(records, proposals_of, aside, n_classes=len(dataset.classes), limits=limits)
    ctx.log.info(
        f"{len(training.foreground)} foreground and {len(training.background)} background windows of"
        f" {int((~aside).sum())} images; {int(aside.sum())} images held out"
    )
    return training, held_out
