"""The interchangeable methods: settings and an image in, a proposals object's arrays and attributes out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cache.errors import StageError
from manifests import ImageRecord
from stages.boxes.geometry import Boxes

from .file import read_proposal_file
from .given import GivenProposals
from .ranking import Rng, first_of_each, image_rng, to_image
from .settings import ProposalsSettings
from .sliding_window import sliding_windows

NEEDS_PIXELS = frozenset({"selective_search", "opencv"})
_COMMON = ("method", "max_proposals")
_PER_METHOD = {
    "selective_search": ("min_side_px", "resize_width_px", "k", "colors", "strategies", "sigma", "min_region_px"),
    "opencv": ("min_side_px", "resize_width_px", "opencv"),
    "sliding_window": ("min_side_px", "sliding_window"),
    "file": (),
}

Result = tuple[dict[str, NDArray[Any]], dict[str, Any]]


def key_params(settings: ProposalsSettings, seed: int) -> dict[str, Any]:
    """Return the parameters that the chosen method's result depends on."""
    everything = settings.model_dump(mode="json")
    params = {name: everything[name] for name in (*_COMMON, *_PER_METHOD[settings.method])}
    if settings.method != "file":
        params["seed"] = seed
    if settings.method == "opencv":
        params["opencv_version"] = cv2.__version__
    return params


def prepare(settings: ProposalsSettings) -> None:
    """Fail early, or compile once rather than in every thread.

    Raises:
        StageError: the method cannot be used with these settings on this machine.
    """
    if settings.method == "selective_search":
        from .selective_search import search as selective_search  # noqa: F401  (importing compiles, or loads what numba has on disk)
    elif settings.method == "opencv":
        from .opencv import require_opencv_contrib

        require_opencv_contrib()


def file_boxes(
    settings: ProposalsSettings, images: Sequence[ImageRecord], note: Callable[[str], None]
) -> dict[int, GivenProposals] | None:
    """Read the proposals of all images by id, for method ``file``; None for the others."""
    if settings.method != "file":
        return None
    if settings.file.path is None:
        raise StageError("proposals.method is file but proposals.file.path is not set; see docs/proposal-file.md")
    return read_proposal_file(settings.file.path, images, note)


def proposals_of(
    record: ImageRecord,
    pixels: NDArray[np.uint8] | None,
    settings: ProposalsSettings,
    seed: int,
    given: GivenProposals | None,
) -> Result:
    """Arrays and attributes of one image's object.

    Args:
        pixels: uint8 [H, W, 3] RGB for methods in ``NEEDS_PIXELS``.
        given: the image's boxes or regions, for method ``file``.
    """
    rng = image_rng(seed, record.sha256)
    if settings.method == "file":
        if given is None:
            raise ValueError("method file needs the image's boxes or regions")
        return {**_boxes_only(given.boxes, record), **given.arrays(settings.max_proposals)}, {}
    if settings.method == "sliding_window":
        return _boxes_only(_sliding_window(record, settings, rng), record), {}
    if pixels is None:
        raise ValueError(f"method {settings.method} needs the image's pixels")
    if settings.method == "opencv":
        return _boxes_only(_opencv(pixels, settings, rng), record), {}
    return _selective_search(pixels, settings, rng)


def all_found(
    record: ImageRecord,
    arrays: Mapping[str, NDArray[Any]],
    settings: ProposalsSettings,
    seed: int,
    given: GivenProposals | None,
) -> Boxes | None:
    """All boxes that the method found in an image, those beyond ``max_proposals`` too, in any order.

    Told again from the image's object, which holds every region; None where it does not (OpenCV's).

    Args:
        arrays: the object's, all of them.
        given: as :func:`proposals_of` takes it.
    """
    if settings.max_proposals is None or len(arrays["boxes"]) < settings.max_proposals:
        return np.asarray(arrays["boxes"], np.float32)
    if settings.method == "opencv":
        return None
    if settings.method == "selective_search":
        return _all_regions(record, arrays, settings.min_side_px)
    if settings.method == "file" and given is not None:
        return given.boxes
    whole = settings.model_copy(update={"max_proposals": None})
    return np.asarray(proposals_of(record, None, whole, seed, given)[0]["boxes"], np.float32)


def _all_regions(record: ImageRecord, arrays: Mapping[str, NDArray[Any]], min_side_px: int) -> Boxes:
    from stages.regions.masks import region_boxes

    found = region_boxes(arrays)
    found = found[((found[:, 2:] - found[:, :2]) >= min_side_px).all(axis=1)]
    mapped = to_image(found, record.width, record.height, int(arrays["working_size"][1]))
    return mapped[first_of_each(mapped)]


def _boxes_only(boxes: Boxes, record: ImageRecord) -> dict[str, NDArray[Any]]:
    return {"boxes": boxes, "working_size": np.array([record.height, record.width], np.int32)}


def _selective_search(pixels: NDArray[np.uint8], settings: ProposalsSettings, rng: Rng) -> Result:
    from .region_arrays import region_arrays
    from .selective_search.search import selective_search

    names = ("k", "colors", "strategies", "sigma", "min_region_px", "min_side_px", "resize_width_px", "max_proposals")
    found = selective_search(pixels, rng, **{name: getattr(settings, name) for name in names})
    label_maps = [{"k": k, "color": color} for k in settings.k for color in settings.colors]
    hierarchies = [{**m, "strategy": s} for m in label_maps for s in settings.strategies]
    return region_arrays(found), {"label_maps": label_maps, "hierarchies": hierarchies}


def _opencv(pixels: NDArray[np.uint8], settings: ProposalsSettings, rng: Rng) -> Boxes:
    from .opencv import opencv_proposals

    common: Mapping[str, Any] = {
        name: getattr(settings, name) for name in ("min_side_px", "resize_width_px", "max_proposals")
    }
    return opencv_proposals(pixels, rng, **settings.opencv.model_dump(), **common)


def _sliding_window(record: ImageRecord, settings: ProposalsSettings, rng: Rng) -> Boxes:
    return sliding_windows(
        record.width,
        record.height,
        rng,
        **settings.sliding_window.model_dump(),
        min_side_px=settings.min_side_px,
        max_proposals=settings.max_proposals,
    )
