"""How a dataset is read: the options common to all source formats."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from cache.errors import DatasetError
from manifests.images import DEFAULT_MAX_PIXELS, HARD_MAX_PIXELS

DEFAULT_FRACTIONS: Mapping[str, float] = {"train": 0.8, "test": 0.2}
# Folders of these names, in any case, are splits.
SPLIT_NAMES = frozenset({"train", "training", "trainval", "val", "valid", "validation", "test", "testing"})
# Of these those that are there to be trained on.
TRAIN_NAMES = frozenset({"train", "training", "trainval"})

STUFF = ("background", "void", "class")


@dataclass(frozen=True)
class ReadOptions:
    """Options of every reader; DatasetError, all violations at once, when one is out of range.

    classes: the classes to expect, in the order wanted; an object of any other class is a problem. None: all found.
    on_error: "stop" reports every problem and gives no dataset; "skip" leaves out just the bad boxes and images and
        tells each in a note. A source that cannot be read at all stops in both cases.
    images: folder of the images, for COCO JSON whose images are not beside it, and for VOC. None: looked for.
    annotations: folder of VOC's XML files, where it is not the devkit's. None: looked for.
    fractions, seed: for a source without splits: each split's share of the images (they add up to 1), drawn by a hash
        of seed and file name, so that adding an image moves no other.
    tolerance_px: a box may stick out of its image by this much and is then clipped. Rounding gives 1 px; labelling
        tools that write VOC files 0-based or one too far give up to 2.
    max_pixels: width x height above which an image is refused undecoded, as decompression bombs must be.
    per_class: of a tree of class folders, at most so many pictures of each class and split, drawn by ``seed``.
    unannotated: splits of whose pictures none is annotated, to test on only (VOC's lists since 2010 name pictures
        without XML, COCO's ``image_info_SPLIT.json`` has no annotations). One that has an object is refused, so that
        no split is annotated in part without anybody's knowing.
    in_part: splits whose images may show more objects of the classes than are annotated (``ImageRecord.exhaustive``).
    devkit: of ILSVRC, the folder with meta_det.mat, or one above it. None: looked for.
    ignore_annotations: what objects the splits ``unannotated`` have all the same is left out, unread (of VOC's test
        pictures since 2010 some have boxes for the layout and action tasks alone).
    segmentation: take the masks, too: VOC's of SegmentationClass/ and SegmentationObject/, with the splits of
        ImageSets/Segmentation; COCO's polygons and RLE.
    masks: folder of the masks, for formats whose masks are files beside the images. None: looked for.
    voc: of SBD, a VOC folder whose masks win, and whose val images are not trained on.
    void, shift, background: of a folder of masks, the value that is left out (None: none is), what is added to a value
        to give its line in the list of names (COCO-Stuff's maps: 1), and whether 0 of that list is the background.
    stuff: of a panoptic dataset, what is no thing is "background", "void" or "class" (a class like any other).
    min_pixels: of a panoptic dataset, a thing of fewer pixels is void, and its box difficult.
    """

    classes: tuple[str, ...] | None = None
    on_error: str = "stop"
    images: str | None = None
    annotations: str | None = None
    fractions: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_FRACTIONS))
    seed: int = 0
    tolerance_px: float = 2.0
    max_pixels: int = DEFAULT_MAX_PIXELS
    per_class: int | None = None
    unannotated: tuple[str, ...] = ()
    ignore_annotations: bool = False
    devkit: str | None = None
    in_part: tuple[str, ...] = ()
    segmentation: bool = False
    masks: str | None = None
    voc: str | None = None
    void: int | None = 255
    shift: int = 0
    background: bool = True
    stuff: str = "background"
    min_pixels: int = 0

    def __post_init__(self) -> None:
        if self.classes is not None:
            object.__setattr__(self, "classes", tuple(self.classes))
        object.__setattr__(self, "unannotated", tuple(self.unannotated))
        object.__setattr__(self, "in_part", tuple(self.in_part))
        problems = []
        if self.on_error not in ("stop", "skip"):
            problems.append(f"on_error: {self.on_error!r} is unknown; choose 'stop' or 'skip'")
        if self.classes is not None and (not self.classes or len(set(self.classes)) != len(self.classes)):
            problems.append("classes: the list is empty or names a class twice; name each class once")
        if not self.fractions or any(not name or not 0 <= f <= 1 for name, f in self.fractions.items()):
            problems.append(f"fractions: {dict(self.fractions)}: each split needs a name and a share in [0, 1]")
        elif abs(sum(self.fractions.values()) - 1) > 1e-6:
            problems.append(f"fractions: {dict(self.fractions)} do not add up to 1; correct them")
        if not 0 <= self.tolerance_px <= 100:
            problems.append(f"tolerance_px: {self.tolerance_px} is not in [0, 100]")
        if not 1 <= self.max_pixels <= HARD_MAX_PIXELS:
            problems.append(f"max_pixels: {self.max_pixels} is not in [1, {HARD_MAX_PIXELS}], the decoder's own limit")
        if self.per_class is not None and self.per_class < 1:
            problems.append(f"per_class: {self.per_class} is not 1 or more")
        problems += self._mask_problems()
        names = list(self.unannotated)
        if not all(isinstance(name, str) and name for name in names) or len(set(names)) != len(names):
            problems.append(f"unannotated: {names} has an empty name or one twice; name each split once")
        elif trained := [name for name in names if name.lower() in TRAIN_NAMES]:
            problems.append(
                f"unannotated: {trained[0]!r} is a split to train on, which needs annotations; name splits to test on"
            )
        if self.ignore_annotations and not self.unannotated:
            problems.append("ignore_annotations: is for the splits named by unannotated, and none is; name them")
        if problems:
            raise DatasetError(problems)

    def _mask_problems(self) -> list[str]:
        problems = []
        if self.stuff not in STUFF:
            problems.append(f"stuff: {self.stuff!r} is unknown; choose one of: {', '.join(STUFF)}")
        if self.void is not None and not 0 <= self.void <= 255:
            problems.append(f"void: {self.void} is not a value from 0 to 255, nor none")
        if self.shift not in range(-255, 256):
            problems.append(f"shift: {self.shift} is not in [-255, 255]")
        if self.min_pixels < 0:
            problems.append(f"min_pixels: {self.min_pixels} is below 0")
        return problems

    def is_unannotated(self, splits: Sequence[str]) -> bool:
        """Whether an image of these splits is in one that is said to have no annotations."""
        return not set(splits).isdisjoint(self.unannotated)

    def leaves_unread(self, splits: Sequence[str]) -> bool:
        """Whether the annotations of an image of these splits are not to be read, if it has any."""
        return self.ignore_annotations and self.is_unannotated(splits)

    def to_json(self) -> dict[str, Any]:
        """Return the options as JSON values, for ``source.json``."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ReadOptions":
        """The inverse of :meth:`to_json`."""
        try:
            lists = (values.get("classes"), values.get("unannotated"), values.get("in_part"))
            if not isinstance(values.get("fractions", {}), Mapping) or not all(
                isinstance(v, list | None) for v in lists
            ):
                raise TypeError("fractions, classes, unannotated or in_part are of another type")
            return cls(**values)
        except (TypeError, ValueError, OverflowError) as error:
            raise DatasetError(
                f"options {dict(values)} are not understood ({error}); import the dataset again"
            ) from None
