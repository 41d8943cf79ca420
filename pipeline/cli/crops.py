"""``rcnn features crops``: an image's regions as the network sees them, in a picture."""

from pathlib import Path

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from cache import Artifact
from cache.errors import OutputError, StageError
from cache.outputs import OutputFolder
from manifests import Dataset, ImageRecord, ImageSource
from manifests.select import is_searched
from pipeline.cli.types import GivenPath
from pipeline.context import registered_folder
from pipeline.workspace import current_dataset, current_layout, open_params, open_store, untouchable
from stages.boxes.geometry import Boxes
from stages.features.crop_sheets import transformations, windows
from stages.features.settings import FeaturesSettings
from stages.finetune.settings import FinetuneSettings
from stages.finetune.windows import Limits, collect
from stages.networks.weights import load_weights
from stages.proposals.reading import proposals_key

_PAPERS_SHARE = 16 / 227  # of the input's side: the paper's context
_COLUMNS = "region, square with context, square without, warp"


@click.command()
@click.argument("image_id")
@click.option("--out", type=GivenPath(dir_okay=False, path_type=Path), required=True, help="Write this .png or .jpg.")
@click.option(
    "--figure",
    type=click.Choice(["7", "2"]),
    default="7",
    help="7: the image's objects, transformed in each way; 2: its windows as fine-tuning sees them.",
)
@click.option("--regions", type=click.IntRange(1, 100), default=None, help="At most so many (default: 6, or 36).")
@click.option("--force", is_flag=True, help="Replace a file that is there, though this command did not write it.")
@click.pass_obj
def crops(project: Path, image_id: str, out: Path, figure: str, regions: int | None, force: bool) -> None:
    """Draw an image's regions as the network sees them: the paper's Figures 7 and 2.

    IMAGE_ID: the number, or the file's name, of an image of the current dataset manifest. Figure 7 (appendix A): of
    each object a row without context and one with features.context_px (the paper's 16 of 227 px where that is 0),
    columns: the region at its own scale, the tightest square with context, without, and the warp. Figure 2: the objects
    and the proposals whose IoU with one is finetune.fg_iou or more (of an image annotated in part the objects alone),
    cropped by features.crop and context_px. What is missing is as features.padding says.
    """
    if out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise OutputError(f"{out}: the name of a picture ends in .png or .jpg")
    if not out.parent.is_dir():
        raise OutputError(f"{out.parent}: no such folder; make it first")
    outputs = OutputFolder(
        out.parent,
        "give another name, or --force to replace it",
        force=force,
        elsewhere="give a file in another folder by --out",
    )
    outputs.check([out.name], protected=untouchable(project))
    sheet, said = _drawn(project, image_id, figure, regions)
    outputs.prepare()
    outputs.write(out.name, _encoded(sheet, out))
    click.echo(f"{out}: {said}")


def _drawn(project: Path, image_id: str, figure: str, regions: int | None) -> tuple[NDArray[np.uint8], str]:
    """Return the picture, uint8 [H, W, 3] RGB, and what is in it."""
    layout, params = current_layout(project), open_params(project)
    groups = params.groups
    settings = groups.of("features", FeaturesSettings) if "features" in groups.groups else None
    if settings is None or settings.method != "warp":
        raise StageError(f"detector {layout.name}: cuts no crops; a detector with features.method: warp does")
    dataset = current_dataset(project)
    record = image_named(dataset, image_id)
    spec = load_weights(layout.artifacts / "finetune/weights.safetensors").input
    image = ImageSource.registered(registered_folder(project, params.dataset)).read(record)
    mode, padding, context_px = settings.crop, settings.padding, settings.context_px
    if figure == "2":
        found = _foreground(project, dataset, record, groups.of("finetune", FinetuneSettings))
        boxes = _some(found, record)[: regions or 36]
        sheet = windows(image, boxes, spec, mode=mode, context_px=context_px, padding=padding)
        return sheet, f"{len(boxes)} of {len(found)} windows of {record.file_name}, {mode}, p = {context_px}"
    boxes = _some(record.boxes[~record.crowd], record)[: regions or 6]
    context_px = context_px or round(_PAPERS_SHARE * spec.side_px)
    sheet = transformations(image, boxes, spec, contexts_px=(0, context_px), padding=padding)
    return sheet, f"{len(boxes)} objects of {record.file_name}; rows: p = 0, p = {context_px}; columns: {_COLUMNS}"


def image_named(dataset: Dataset, name: str) -> ImageRecord:
    """Return the image of a number or a file's name, with or without folders; DatasetError where there is none."""
    by_number = name.isdigit() and any(image.id == int(name) for image in dataset.images)
    return dataset.image(int(name) if by_number else name)


def _foreground(project: Path, dataset: Dataset, record: ImageRecord, settings: FinetuneSettings) -> Boxes:
    """Return an image's objects, and then its proposals that fine-tuning takes for objects, as it collects them.

    Of an image that is annotated in part they are its objects: it has no proposals.
    """

    def proposals_of(one: ImageRecord) -> Boxes:
        if not is_searched(one):
            return np.zeros((0, 4), np.float32)
        listed, store = Artifact.read(project / "artifacts/proposals/manifest.json"), open_store(project)
        boxes: Boxes = store.get(listed.stage, proposals_key(listed, one), ["boxes"]).arrays["boxes"]
        return boxes

    limits = Limits(settings.fg_iou, settings.bg_iou, settings.bg_iou_low)
    (found,) = collect([record], proposals_of, n_classes=len(dataset.classes), limits=limits)
    return found.boxes[found.foreground]


def _some(boxes: Boxes, record: ImageRecord) -> Boxes:
    if not len(boxes):
        raise StageError(f"{record.file_name}: has no object to be drawn; name an image that has one")
    return boxes


def _encoded(sheet: NDArray[np.uint8], out: Path) -> bytes:
    try:
        made, data = cv2.imencode(out.suffix.lower(), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    except cv2.error:  # JPEG ends at 65,500 px
        made = False
    if not made:
        height, width = sheet.shape[:2]
        raise StageError(f"{out}: {width} x {height} px are too many for this format; give fewer --regions")
    return data.tobytes()
