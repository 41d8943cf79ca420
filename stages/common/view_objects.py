"""One picture's views to an object of the store: layers of a network, and the key that names them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cache import Recipe
from manifests import ImageRecord

from .contract import Compute, ImageTask, ReadImage
from .errors import StageError

if TYPE_CHECKING:
    from cache import Payload

    from .networks import Network
    from .views import ViewNetwork


def described(
    network: "Network", layers: Sequence[str], dtype: str, short_side_px: int, views: Sequence[int]
) -> dict[str, Any]:
    """Everything but the picture that the layers' bits depend on: part of the key, and kept as attributes."""
    from .weights import weights_digest

    return {
        "layers": sorted(layers),
        "network": network.name,
        "weights_digest": weights_digest(network, layers),
        "pyramid": None if network.pyramid is None else list(network.pyramid),
        "pool5_grid": network.pool5_grid if "pool5" in layers else None,
        "input": network.input.as_json(),
        "arithmetic": dtype,
        "short_side_px": short_side_px,
        "views": sorted(views),
    }


def task_of(record: ImageRecord, stage: str, version: int, made_of: dict[str, Any]) -> ImageTask:
    """The task of computing one picture's object."""
    return ImageTask(record, Recipe(stage, version, made_of, {"image": record.sha256}))


@dataclass(frozen=True)
class ViewsCompute(Compute):
    """One picture to the layers of its views, as :func:`described` says; float32 [n views, d] by the layer's name."""

    on_device = True
    read_image: ReadImage
    network: "Network"
    described: dict[str, Any]
    device: str

    @cached_property
    def views(self) -> "ViewNetwork":
        """On the device of this process."""
        from .device import device_of
        from .views import ViewNetwork

        made_of = self.described
        return ViewNetwork(
            self.network,
            made_of["layers"],
            made_of["short_side_px"],
            made_of["views"],
            dtype=made_of["arithmetic"],
            device=device_of(self.device),
        )

    def prepare(self) -> None:
        """Move the network to the device."""
        _ = self.views

    def __call__(self, task: ImageTask) -> "Payload":
        """The layers of the picture's views."""
        from cache import Payload

        record = task.image
        try:
            layers = self.views(self.read_image(record))
        except StageError as error:
            raise StageError(f"{record.file_name}: {error}") from error
        attrs = {"image": record.file_name, "image_sha256": record.sha256, "count": len(self.described["views"])}
        return Payload(layers, {**self.described, **attrs}, "hdf5")
