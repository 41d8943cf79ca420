"""The checks of an image's objects that all formats share: into pixels of the upright image, and inside it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from manifests.masks.rle import check_segmentation
from manifests.names import shown_names

from .findings import Findings, FoundImage, FoundObject
from .options import ReadOptions


@dataclass(frozen=True)
class ImageFile:
    """An image's file as read: size of the upright picture, px, and the EXIF ``orientation`` that it is stored in.

    ``missing`` says what a file that ends early lacks.
    """

    sha256: str
    width: int
    height: int
    orientation: int
    missing: str = ""


@dataclass(frozen=True)
class ObjectChecks:
    """Checks objects against their image and the classes ``label_of``.

    What cannot be used becomes a problem of ``findings``; what was mended is counted in ``tally``.
    """

    label_of: Mapping[str, int]
    options: ReadOptions
    findings: Findings
    tally: Counter[str] = field(default_factory=Counter)

    def upright(self, image: FoundImage, file: ImageFile) -> list[FoundObject] | None:
        """The image's objects in pixels of the upright image; None where its size or masks do not fit: a problem.

        An annotation whose stated size is that of the pixels before the EXIF turn was drawn on the unturned picture (as
        older labelling tools show it), so its boxes are turned with the picture; its segmentations are dropped, which
        is a problem where they are the image's masks.
        """
        if image.relative:
            self.tally["upright"] += file.orientation != 1
            return [_scaled(item, file.width, file.height) for item in image.objects]
        if image.stated in (None, (file.width, file.height)):
            self.tally["upright"] += file.orientation != 1 and image.category is None
            return list(image.objects)
        if image.stated == (file.height, file.width) and file.orientation >= 5:
            if _has_coco_masks(image) and any("segmentation" in item.details for item in image.objects):
                self.findings.problem(
                    f"{image.where}: its masks were drawn before the EXIF turn of {image.file_name}; remove the "
                    "picture's EXIF orientation, or import without --segmentation",
                    "EXIF turn",
                )
                return None
            self.tally["turned"] += 1
            return [_turned(item, file) for item in image.objects]
        assert image.stated is not None
        self.findings.problem(
            f"{image.where}: says {image.stated[0]} x {image.stated[1]} but the image {image.file_name} is "
            f"{file.width} x {file.height}; correct the size, and the boxes if they were drawn on another picture"
        )
        return None

    def masks_fit(self, image: FoundImage, file: ImageFile) -> bool:
        """Whether the image's masks, if it has any, are of its size; if not, that is a problem."""
        if image.masks is None or image.mask_size in (None, (file.width, file.height)):
            return True
        assert image.mask_size is not None
        width, height = image.mask_size
        self.findings.problem(
            f"{image.masks.files[0][0]}: is {width} x {height} but its image {image.file_name} is {file.width} x "
            f"{file.height}; make the mask of the image's size",
            "mask of another size",
        )
        return False

    def usable(self, image_where: str, objects: Sequence[FoundObject], file: ImageFile) -> list[FoundObject]:
        """The usable objects of one image, clipped to it; every other one is a problem."""
        kept = []
        for item in objects:
            inside = self._inside(item, file)
            if isinstance(inside, FoundObject):
                kept.append(inside)
            else:
                same_cause = inside if item.label not in self.label_of else ""
                self.findings.problem(f"{image_where}: {item.where}: {inside}", same_cause)
        return kept

    def drawable(self, image: FoundImage, objects: Sequence[FoundObject], file: ImageFile) -> list[FoundObject]:
        """The objects whose COCO segmentation can be drawn, where these are the image's masks; all others are problems.

        One without segmentation is kept, and counted.
        """
        if not _has_coco_masks(image):
            return list(objects)
        kept = []
        for item in objects:
            segmentation = item.details.get("segmentation")
            self.tally["without mask"] += segmentation is None
            try:
                if segmentation is not None:
                    check_segmentation(segmentation, (file.height, file.width))
                kept.append(item)
            except ValueError as error:
                self.findings.problem(f"{image.where}: {item.where}: {error}; correct or remove it", str(error))
        return kept

    def _inside(self, item: FoundObject, file: ImageFile) -> FoundObject | str:
        """The object clipped to its image, or what is wrong with it."""
        if item.label not in self.label_of:
            known = shown_names(list(self.label_of)[:8]) + (", ..." if len(self.label_of) > 8 else "")
            return f"class {item.label!r} is unknown; add it to the classes ({known}) or correct it"
        x1, y1, x2, y2 = item.box
        if not np.isfinite(item.box).all():
            return f"box {item.shown} is not finite; correct or remove it"
        if x2 <= x1 or y2 <= y1:
            return f"box {item.shown} is empty or inverted; correct or remove it"
        overhang = max(-x1, -y1, x2 - file.width, y2 - file.height)
        clipped = (max(x1, 0.0), max(y1, 0.0), min(x2, float(file.width)), min(y2, float(file.height)))
        as_kept = np.array(clipped, np.float32)
        if overhang > self.options.tolerance_px or not (as_kept[2:] > as_kept[:2]).all():
            return (
                f"box {item.shown} leaves the {file.width} x {file.height} image by {overhang:g} px; "
                "correct or remove it"
            )
        self.tally["clipped"] += overhang > 0.01  # less is the arithmetic of fractions, not worth a word
        return replace(item, box=clipped)

    def note_tally(self) -> None:
        """Say how many boxes were clipped or turned, and how many objects have no mask."""
        if self.tally["without mask"]:
            self.findings.note(
                f"{self.tally['without mask']} objects have no segmentation, so that their pixels are background"
            )
        if self.tally["clipped"]:
            self.findings.note(
                f"{self.tally['clipped']} boxes stuck out of their image by rounding and were clipped to it"
            )
        if self.tally["upright"]:
            self.findings.note(
                f"{self.tally['upright']} images are turned by EXIF; "
                "their boxes are taken as drawn on the upright picture"
            )
        if self.tally["turned"]:
            self.findings.note(
                f"{self.tally['turned']} images were annotated before their EXIF turn; their boxes were turned too"
            )


def _has_coco_masks(image: FoundImage) -> bool:
    """Whether the segmentations of the image's objects are its masks."""
    return image.masks is not None and image.masks.kind == "coco"


def _scaled(item: FoundObject, width: int, height: int) -> FoundObject:
    """Fractions of the image's size -> pixels."""
    x1, y1, x2, y2 = item.box
    details = dict(item.details)
    if "segmentation" in details:
        details["segmentation"] = [
            [v * (height if i % 2 else width) for i, v in enumerate(polygon)] for polygon in details["segmentation"]
        ]
    return replace(item, box=(x1 * width, y1 * height, x2 * width, y2 * height), details=details)


def _turned(item: FoundObject, file: ImageFile) -> FoundObject:
    details = {key: value for key, value in item.details.items() if key != "segmentation"}
    return replace(item, box=_turned_box(item.box, file.orientation, file.width, file.height), details=details)


def _turned_box(
    box: tuple[float, float, float, float], orientation: int, width: int, height: int
) -> tuple[float, float, float, float]:
    """A box of the stored pixels in the upright ``width`` x ``height`` image, for the orientations that transpose."""
    y1, x1, y2, x2 = box
    if orientation in (6, 7):
        x1, x2 = width - x2, width - x1
    if orientation in (7, 8):
        y1, y2 = height - y2, height - y1
    return x1, y1, x2, y2
