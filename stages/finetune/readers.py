"""What a run's mini-batches are made of, as ``features.method`` says: warped windows, or windows pooled from maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manifests import ImageRecord
from stages.contract import Context
from stages.features.maps import STAGE, MapsCompute, described, map_name, map_task
from stages.features.spp.extraction import Spp
from stages.features.warp import CropMode
from stages.networks.network import Network

from .batches import MapName, PooledWindows, WarpedWindows, checked_length, pooled_windows, warped_windows
from .settings import FinetuneSettings
from .windows import Windows


@dataclass(frozen=True)
class RegionForm:
    """How the stage features will make a region the network's input; fine-tuning does the same.

    ``crop`` and ``context_px`` are of method warp; ``spp`` and ``storage`` of spp.
    """

    method: str
    crop: CropMode
    context_px: int
    spp: Spp
    storage: str

    @classmethod
    def of(cls, ctx: Context) -> "RegionForm":
        """From the parameters of group ``features`` that the stage declares."""
        spp = ctx.settings("features.spp")
        return cls(
            ctx.settings("features.method"),
            ctx.settings("features.crop"),
            ctx.settings("features.context_px"),
            Spp(**dict(spp)),
            ctx.settings("features.storage"),
        )

    def identity(self) -> list[Any]:
        """What the result depends on, as JSON."""
        if self.method == "warp":
            return [self.method, self.crop, self.context_px]
        spp = self.spp
        return [self.method, sorted(spp.scales_px), list(spp.levels), spp.target_side_px, self.storage]


def warped(ctx: Context, form: RegionForm, network: Network, settings: FinetuneSettings) -> WarpedWindows:
    """Windows cut out of the train split's images. Raises ``StageError`` where the context leaves no room."""
    records, read = ctx.dataset().split("train"), ctx.image
    return warped_windows(
        lambda index: read(records[index]),
        network.input,
        mode=form.crop,
        context_px=form.context_px,
        cache_bytes=settings.image_cache_mb << 20,
    )


def pooled(
    ctx: Context,
    form: RegionForm,
    network: Network,
    settings: FinetuneSettings,
    training: Windows,
    held_out: Windows,
) -> PooledWindows:
    """Windows pooled from the images' maps, of which those that the store lacks are computed now.

    Publishes output ``maps``. ``network`` is in main memory. Raises ``StageError`` where the network's fully connected
    layers do not take the pooled vector.
    """
    checked_length(network, form.spp)
    records = ctx.dataset().split("train")
    mirrored = set(np.unique(training.images).tolist()) if settings.mirror else set()
    wanted = np.unique(np.concatenate([training.images, held_out.images])).tolist()
    made_of = described(network, form.spp.scales_px, settings.precision, form.storage)
    tasks = [map_task(records[index], made_of, mirrored=index in mirrored) for index in wanted]
    computed = ctx.compute_images(tasks, MapsCompute(ctx.image, network, ctx.device, made_of), unit="maps")
    ctx.publish("maps", [(records[i].id, key) for i, key in zip(wanted, computed, strict=True)], made_of)
    keys, store = dict(zip(wanted, computed, strict=True)), ctx.store

    def read(name: MapName) -> NDArray[Any]:
        index, scale_px, mirror = name
        array = map_name(scale_px, mirror)
        return store.get(STAGE, keys[index], [array]).arrays[array]

    return pooled_windows(network, read, _shapes(records), form.spp, cache_bytes=settings.image_cache_mb << 20)


def _shapes(records: Sequence[ImageRecord]) -> list[tuple[int, int]]:
    return [(record.width, record.height) for record in records]
