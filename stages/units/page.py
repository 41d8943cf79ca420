"""A page of units: of each a row of the crops that it responds to most, with its receptive field in white.

As Figures 4 and 12 of the R-CNN paper and the authors' pool5 explorer show them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stages.boxes.geometry import Boxes
from stages.features.crop_sheets import as_seen
from stages.features.warp import CropMode, Padding, warp_regions
from stages.networks.spec import InputSpec
from stages.page.markup import Markup, document, section, tag
from stages.page.pictures import jpeg_uri

from .cells import Cells
from .top import TopUnits

SIDE_PX = 96  # of a crop on the page; the explorer's
_QUALITY = 80
_SILENT_SHOWN = 2000  # units named; of a layer that is nearly silent the page would be of these alone
_STYLE = """
body { max-width: 1800px; }
.unit { display: flex; flex-wrap: wrap; align-items: center; gap: 2px; scroll-margin-top: 4px; padding: 2px; }
.unit:target { outline: 2px solid currentColor; }
.unit h3 { width: 10.5em; margin: 0; font: inherit; flex: none; }
.unit figure { position: relative; width: 96px; height: 96px; margin: 0; flex: none; background-size: 100% 100%; }
.unit figure b { position: absolute; box-sizing: border-box; border: 1px solid #fff; outline: 1px solid #000a; }
.unit figure b { box-shadow: inset 0 0 0 1px #000a; }
.unit figure i { position: absolute; left: 2px; bottom: 1px; color: #fff; }
.unit figure i { text-shadow: 0 0 2px #000, 0 0 2px #000, 0 0 3px #000; }
.row { overflow-x: auto; }
"""
# Up and down: the next channel on the page, at the nearest cell; left and right: the channel's next cell. The page is
# whole without it, and is scrolled.
_KEYS = """
const units = [...document.querySelectorAll('.unit')], places = units.map(unit => JSON.parse(unit.dataset.at));
const steps = {ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0]};
document.addEventListener('keydown', event => {
  const step = steps[event.key];
  if (!step || !units.length) return;
  event.preventDefault();
  const now = units.findIndex(unit => '#' + unit.id === location.hash);
  if (now < 0) { location.hash = units[0].id; return; }
  const far = places.map(place => {
    const x = place[0] - places[now][0], y = place[1] - places[now][1];
    const onWay = step[0] ? y === 0 && x * step[0] > 0 : y * step[1] > 0;
    return onWay ? Math.abs(y) * units.length + Math.abs(x) : Infinity;
  });
  const nearest = Math.min(...far);
  if (nearest < Infinity) location.hash = units[far.indexOf(nearest)].id;
});
"""


@dataclass(frozen=True)
class CropForm:
    """How regions became the network's input ``spec``: see :mod:`stages.features.warp`; ``context_px`` of its side."""

    mode: CropMode
    context_px: int
    spec: InputSpec
    padding: Padding = "mean"

    def small(self, pixels: NDArray[np.uint8], boxes: Boxes) -> NDArray[np.uint8]:
        """Warp regions as the network saw them, smaller: uint8 [n, 96, 96, 3]; the mean's padding is its colour."""
        spec = replace(self.spec, side_px=SIDE_PX)
        context = round(self.context_px * SIDE_PX / self.spec.side_px)
        return as_seen(
            warp_regions(pixels, boxes, spec, mode=self.mode, context_px=context, padding=self.padding), spec
        )


@dataclass(frozen=True)
class ShownUnit:
    """A unit on the page: its number, channel, and cell (y, x) where the layer has cells."""

    unit: int
    channel: int
    cell: tuple[int, int] | None

    @property
    def name(self) -> str:
        """What it is called: ``channel 5, cell 3, 3``, or ``unit 5``."""
        if self.cell is None:
            return f"unit {self.unit}"
        return f"channel {self.channel}, cell {self.cell[0]}, {self.cell[1]}"


def chosen(
    found: TopUnits, cells: Cells | None, channels: int, asked: Sequence[tuple[int, ...]] = ()
) -> list[ShownUnit]:
    """Choose the units of the page: those ``asked`` for as (y, x, channel) or (unit,), else the centre cell's first."""
    if cells is None:
        units = [one[0] for one in asked] or range(min(channels, len(found.counts)))
        return [ShownUnit(unit, unit, None) for unit in units]
    y, x = cells.centre
    wanted = asked or [(y, x, channel) for channel in range(min(channels, cells.channels))]
    return [ShownUnit(cells.unit(*one), one[2], (one[0], one[1])) for one in wanted]


def largest_of_channel(found: TopUnits, cells: Cells | None, shown: ShownUnit) -> float:
    """Return the largest activation of a unit's channel, at any cell; without cells the unit's own."""
    if cells is None:
        return float(found.values[shown.unit, 0])
    first = cells.unit(0, 0, shown.channel)
    return float(found.values[first : first + cells.rows * cells.columns, 0].max())


Crops = Callable[[Mapping[int, Sequence[int]]], Mapping[tuple[int, int], NDArray[np.uint8]]]


def page(
    found: TopUnits,
    cells: Cells | None,
    units: Sequence[ShownUnit],
    *,
    per_unit: int,
    side_px: int,
    crops: Crops,
    names: Sequence[str],
    title: str,
    lead: str,
) -> str:
    """Return the page as text: no file beside it, and the crops each once, however many units they are in.

    Args:
        per_unit: crops of each.
        side_px: side of the network's input, in whose px the cells' fields are.
        crops: gives the crops uint8 [96, 96, 3] of rows of images, by (image, row); asked once, rows by image.
        names: of each image, for who points at a crop.
    """
    wanted: dict[int, set[int]] = {}
    for one in units:
        for image, row in _pairs(found, one.unit, per_unit):
            wanted.setdefault(image, set()).add(row)
    pictures = crops({image: sorted(rows) for image, rows in sorted(wanted.items())})
    numbers = {place: number for number, place in enumerate(sorted(pictures))}
    rules = [
        f".k{number} {{ background-image: url({jpeg_uri(pictures[place], _QUALITY)}); }}"
        for place, number in numbers.items()
    ]
    columns = {cell: column for column, cell in enumerate(sorted({one.cell for one in units if one.cell is not None}))}
    channels = {channel: row for row, channel in enumerate(sorted({one.channel for one in units}))}
    rows = []
    for one in units:
        largest = largest_of_channel(found, cells, one)
        field = Markup("") if cells is None or one.cell is None else _field(cells.fields[one.cell], side_px)
        figures = [
            tag(
                "figure",
                field,
                tag("i", f"{value / largest:.2f}"),
                class_=f"k{numbers[place]}",
                title=f"{names[place[0]]}, row {place[1]}: {value:.4g}",
            )
            for place, value in zip(_pairs(found, one.unit, per_unit), found.values[one.unit].tolist(), strict=False)
        ]
        at = f"[{columns.get(one.cell, 0) if one.cell else 0}, {channels[one.channel]}]"
        told = tag("h3", one.name if figures else f"{one.name}: silent")
        rows.append(tag("div", told, *figures, class_="unit", id=f"unit-{one.unit}", data_at=at))
    parts = [
        section("units", "Units", tag("div", *rows, class_="row"), tag("script", Markup(_KEYS))),
        section("silent", "Silent units", *_silent(found, cells)),
    ]
    contents = [("units", "Units"), ("silent", "Silent units")]
    return document(title, lead, contents, parts, style=_STYLE + "\n".join(rules))


def _pairs(found: TopUnits, unit: int, per_unit: int) -> list[tuple[int, int]]:
    most = min(per_unit, int(found.counts[unit]))
    images, rows = found.images[unit, :most].tolist(), found.rows[unit, :most].tolist()
    return list(zip(images, rows, strict=True))


def _field(box: NDArray[np.int64], side_px: int) -> Markup:
    x1, y1, x2, y2 = (100 * box / side_px).tolist()
    return tag("b", style=f"left:{x1:.4g}%;top:{y1:.4g}%;width:{x2 - x1:.4g}%;height:{y2 - y1:.4g}%")


def _silent(found: TopUnits, cells: Cells | None) -> list[Markup]:
    """Name the units that see nothing anywhere: of a map by channel, with the cells where it is not all of them."""
    silent = found.silent.tolist()
    if not silent:
        return [tag("p", "Each unit is positive for some region.")]
    if cells is None:
        named = [str(unit) for unit in silent]
    else:
        per = cells.rows * cells.columns
        by_channel: dict[int, list[int]] = {}
        for unit in silent:
            by_channel.setdefault(unit // per, []).append(unit % per)
        named = [
            f"channel {channel}" + ("" if len(places) == per else f" ({_told(places, cells.columns)})")
            for channel, places in by_channel.items()
        ]
    more = f" ... and {len(named) - _SILENT_SHOWN} more" if len(named) > _SILENT_SHOWN else ""
    return [
        tag("p", f"{len(silent)} of {len(found.counts)} units are positive for no region:"),
        tag("p", ", ".join(named[:_SILENT_SHOWN]) + more),
    ]


def _told(places: Sequence[int], columns: int) -> str:
    return "; ".join(f"{place // columns}, {place % columns}" for place in places)
