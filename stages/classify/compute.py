"""One picture to the logits of its views, and the key that names them."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..common.contract import Compute, ImageTask, ReadImage
from ..common.errors import StageError

if TYPE_CHECKING:
    from cache import Payload

    from ..common.networks import Network
    from ..common.views import ViewNetwork

NAME = "classify"
VERSION = 1


def described(network: "Network", dtype: str, short_side_px: int, views: list[int]) -> dict[str, Any]:
    """Everything but the picture that the logits' bits depend on: part of the key, and kept as attributes."""
    from ..common.weights import weights_digest

    return {
        "network": network.name,
        "weights_digest": weights_digest(network, ["fc8"]),
        "pyramid": None if network.pyramid is None else list(network.pyramid),
        "input": network.input.as_json(),
        "arithmetic": dtype,
        "short_side_px": short_side_px,
        "views": views,
    }


@dataclass(frozen=True)
class ClassifyCompute(Compute):
    """One picture to the logits of its views. ``described`` is all that they depend on but the picture."""

    on_device = True
    read_image: ReadImage
    network: "Network"
    described: "dict[str, Any]"
    device: str

    @cached_property
    def views(self) -> "ViewNetwork":
        """On the device of this process."""
        from ..common.device import device_of
        from ..common.views import ViewNetwork

        made_of = self.described
        return ViewNetwork(
            self.network,
            ("fc8",),
            made_of["short_side_px"],
            made_of["views"],
            dtype=made_of["arithmetic"],
            device=device_of(self.device),
        )

    def prepare(self) -> None:
        """Move the network to the device."""
        _ = self.views

    def __call__(self, task: ImageTask) -> "Payload":
        """The logits, float32 [n views, N]."""
        from cache import Payload

        record = task.image
        try:
            logits = self.views(self.read_image(record))["fc8"]
        except StageError as error:
            raise StageError(f"{record.file_name}: {error}") from error
        attrs = {"image": record.file_name, "image_sha256": record.sha256, "count": len(logits)}
        return Payload({"logits": logits}, {**self.described, **attrs}, "hdf5")
