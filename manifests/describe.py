"""What is in a dataset, for people: a table of counts and sizes, and a contact sheet of drawn images."""

import colorsys
import io
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cache.errors import DatasetError
from manifests.source import ImageSource

from .dataset import Dataset, ImageRecord
from .fonts import Font, font_for, one_line
from .masks import read_masks
from .pixels import count_pixels, draw_masks, pixel_rows

_PERCENTILES = (0, 10, 50, 90, 100)
_SMALL_PX, _LARGE_PX = 32.0, 96.0  # COCO's bounds of small, medium and large, as the side of a square of that area
_CELL_PX, _GAP_PX, _FONT_PX = 320, 6, 13


def describe(dataset: Dataset, source: ImageSource | None = None) -> str:
    """A text of tables: objects per class and split, box sizes per class, pixels per class, image sizes.

    Of a dataset with one class per picture two: pictures per class and split, image sizes. ``source`` is where masks
    are read from, all of them; without it they are not counted. DatasetError: a mask that cannot be read.
    """
    if not dataset.has_boxes:
        counts = f"{len(dataset.images)} pictures, {len(dataset.classes)} classes, one per picture"
        parts = [f"dataset {dataset.name}: {counts}", _table(_picture_rows(dataset)), _image_sizes(dataset.images)]
        return "\n\n".join(parts) + "\n"
    parts = [
        f"dataset {dataset.name}: {len(dataset.images)} images, {len(dataset.classes)} classes, "
        f"{sum(len(image.boxes) for image in dataset.images)} objects",
        "\n".join([_table(_count_rows(dataset)), *_unannotated(dataset), *_in_part(dataset)]),
        "box size: square root of the area, px; small below 32, large from 96 (COCO)",
        _table(_size_rows(dataset)),
        *_pixel_table(dataset, source),
        _image_sizes(dataset.images),
    ]
    return "\n\n".join(parts) + "\n"


def _count_rows(dataset: Dataset) -> list[list[str]]:
    """Objects per class (rows) and split (columns), and how many of all are difficult, truncated, crowd."""
    splits = dataset.splits
    members = {split: dataset.split(split) for split in splits}
    rows = [["objects", *splits, "all", "difficult", "truncated", "crowd"]]
    for index, label in enumerate([*dataset.classes, "all classes"]):

        def count(images: Iterable[ImageRecord], flag: str | None = None, index: int = index) -> str:
            total = 0
            for image in images:
                chosen = image.labels == index if index < len(dataset.classes) else np.ones(len(image.labels), bool)
                total += int((chosen & getattr(image, flag)).sum() if flag else chosen.sum())
            return str(total)

        flags = [count(dataset.images, flag) for flag in ("difficult", "truncated", "crowd")]
        rows.append([label, *(count(members[split]) for split in splits), count(dataset.images), *flags])
    everywhere = str(len(dataset.images))
    return [*rows, ["images", *(str(len(members[split])) for split in splits), everywhere, "", "", ""]]


def _unannotated(dataset: Dataset) -> list[str]:
    counts = {name: sum(not image.annotated for image in dataset.split(name)) for name in dataset.splits}
    return [f"split {name}: nobody has annotated its {count} images" for name, count in counts.items() if count]


def _in_part(dataset: Dataset) -> list[str]:
    counts = {name: sum(not image.exhaustive for image in dataset.split(name)) for name in dataset.splits}
    lines = [f"split {name}: {count} images are not exhaustively annotated" for name, count in counts.items() if count]
    unscored = sum(len(image.unscored) for image in dataset.images)
    return [*lines, f"not scored: {unscored} classes of single images"] if unscored else lines


def _pixel_table(dataset: Dataset, source: ImageSource | None) -> list[str]:
    if source is None or all(image.masks is None for image in dataset.images):
        return []
    return [_table(pixel_rows(dataset, count_pixels(dataset, source)))]


def _picture_rows(dataset: Dataset) -> list[list[str]]:
    """Pictures per class (rows) and split (columns)."""
    counts = {name: Counter(image.category for image in dataset.split(name)) for name in dataset.splits}
    every = Counter(image.category for image in dataset.images)
    rows = [
        [label, *(str(counts[name][index]) for name in counts), str(every[index])]
        for index, label in enumerate(dataset.classes)
    ]
    total = ["all classes", *(str(counts[name].total()) for name in counts), str(every.total())]
    return [["pictures", *counts, "all"], *rows, total]


def _size_rows(dataset: Dataset) -> list[list[str]]:
    names = ["min" if p == 0 else "max" if p == 100 else "median" if p == 50 else f"{p}%" for p in _PERCENTILES]
    rows = [["box size", *names, "small", "medium", "large"]]
    sides = np.concatenate([_box_sides(image) for image in dataset.images] or [np.zeros(0)])
    labels = np.concatenate([image.labels for image in dataset.images] or [np.zeros(0, np.int64)])
    for index, label in enumerate(dataset.classes):
        rows.append([label, *_size_cells(sides[labels == index])])
    return [*rows, ["all classes", *_size_cells(sides)]]


def _box_sides(image: ImageRecord) -> NDArray[np.float64]:
    """float64 [n], px: the side of the square of each box's area."""
    extents = (image.boxes[:, 2:] - image.boxes[:, :2]).astype(np.float64)
    sides: NDArray[np.float64] = np.sqrt(extents.prod(axis=1))
    return sides


def _size_cells(sides: NDArray[np.float64]) -> list[str]:
    if not len(sides):
        return ["-"] * len(_PERCENTILES) + ["0"] * 3
    small, large = int((sides < _SMALL_PX).sum()), int((sides >= _LARGE_PX).sum())
    values = [f"{value:.0f}" for value in np.percentile(sides, _PERCENTILES)]
    return [*values, str(small), str(len(sides) - small - large), str(large)]


def _image_sizes(images: Sequence[ImageRecord]) -> str:
    if not images:
        return "no images"
    widths, heights = ([getattr(image, key) for image in images] for key in ("width", "height"))
    return (
        f"image width {min(widths)} to {max(widths)} px (median {np.median(widths):.0f}), "
        f"height {min(heights)} to {max(heights)} px (median {np.median(heights):.0f})"
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Columns padded to their widest cell; the first left, the others right aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def cell(column: int, text: str) -> str:
        align: Callable[[str, int], str] = str.ljust if column == 0 else str.rjust
        return align(text, widths[column])

    return "\n".join("  ".join(cell(i, text) for i, text in enumerate(row)).rstrip() for row in rows)


def shown_on_sheet(dataset: Dataset, n: int, split: str | None) -> list[ImageRecord]:
    """Pick ``n`` images, evenly spaced through the dataset (or one split); fewer where there are no more."""
    images = list(dataset.images) if split is None else dataset.split(split)
    if not images or n < 1:
        return []
    return [images[i] for i in np.unique(np.linspace(0, len(images) - 1, min(n, len(images))).round().astype(int))]


def contact_sheet(dataset: Dataset, source: ImageSource, *, n: int = 12, split: str | None = None) -> bytes:
    """Draw ``n`` images, evenly spaced through the dataset (or one split), with boxes, masks and names -> a PNG file.

    A difficult object's outline is thin, any other's thick. DatasetError: no images, or a file that changed.
    """
    picked = shown_on_sheet(dataset, n, split)
    if not picked:
        raise DatasetError(f"dataset {dataset.name}: there are no images to show; import some, or ask for at least 1")
    cells = []
    for record in picked:
        shows = "" if record.category is None else f", {dataset.classes[record.category]}"
        cell = drawn(record, source, dataset.classes, dataset.category_ids)
        cells.append((cell, f"{record.file_name}  [{record.split}{shows}]"))
    return sheet(cells, int(np.ceil(np.sqrt(len(picked)))))


def sheet(cells: Iterable[tuple[Image.Image, str]], columns: int) -> bytes:
    """Lay out pictures (as :func:`drawn` makes them) row by row, each on its caption -> a PNG file.

    A row is as high as the highest picture in it.
    """
    cells = list(cells)
    pitch = _CELL_PX + _GAP_PX
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    heights = [max(cell.height for cell, _ in row) for row in rows]
    page = Image.new(
        "RGB", (columns * pitch + _GAP_PX, sum(heights) + len(rows) * (_FONT_PX + 4 + _GAP_PX) + _GAP_PX), "white"
    )
    bottom = 0
    for row, height in zip(rows, heights, strict=True):
        bottom += _GAP_PX + height
        for column, (cell, text) in enumerate(row):
            left = column * pitch + _GAP_PX
            page.paste(cell, (left + (_CELL_PX - cell.width) // 2, bottom - cell.height))
            caption = one_line(text)
            font = font_for(caption, _FONT_PX)
            ImageDraw.Draw(page).text((left, bottom), _fitting(caption, font, _CELL_PX), fill="black", font=font)
        bottom += _FONT_PX + 4
    file = io.BytesIO()
    page.save(file, "PNG")
    return file.getvalue()


def drawn(
    record: ImageRecord,
    source: ImageSource,
    classes: Sequence[str],
    category_ids: Sequence[int] | None = None,
    *,
    plain: bool = False,
) -> Image.Image:
    """Draw one image, fitted into a cell of a sheet, with its objects; with ``category_ids``, their masks, too.

    ``plain``: thin outlines without names, for who looks at the picture and not at its objects.
    """
    pixels = source.read(record)
    if record.masks is not None and category_ids is not None:
        masks = read_masks(source, record, category_ids)
        pixels = draw_masks(pixels, masks, [class_colour(i) for i in range(len(classes))])
    scale = min(_CELL_PX / record.width, _CELL_PX / record.height)
    shape = (max(1, round(record.width * scale)), max(1, round(record.height * scale)))
    cell = Image.fromarray(pixels).resize(shape, Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(cell)
    for box, label, difficult in zip(record.boxes * scale, record.labels, record.difficult, strict=True):
        colour = class_colour(int(label))
        x1, y1 = float(box[0]), float(box[1])
        x2, y2 = max(x1, float(box[2]) - 1), max(y1, float(box[3]) - 1)
        draw.rectangle((x1, y1, x2, y2), outline=colour, width=1 if difficult or plain else 2)
    if plain:
        return cell
    for box, label in zip(record.boxes * scale, record.labels, strict=True):  # above all outlines
        name = one_line(classes[label])
        font = font_for(name, _FONT_PX)
        width = draw.textlength(name, font=font) + 3
        x = max(0.0, min(float(box[0]), cell.width - width))
        y = max(0.0, float(box[1]) - _FONT_PX - 2)
        draw.rectangle((x, y, x + width, y + _FONT_PX + 2), fill=class_colour(int(label)))
        draw.text((x + 2, y), name, fill="black", font=font)
    return cell


def class_colour(index: int) -> tuple[int, int, int]:
    """A light RGB colour; neighbouring classes lie a golden angle apart, so few are alike."""
    red, green, blue = colorsys.hls_to_rgb((0.12 + index * 0.61803) % 1.0, 0.62, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def _fitting(text: str, font: Font, width_px: int) -> str:
    """``text`` cut at its start to fit, as a path's end says most."""
    if font.getlength(text) <= width_px:
        return text
    while text and font.getlength("..." + text) > width_px:
        text = text[1:]
    return "..." + text
