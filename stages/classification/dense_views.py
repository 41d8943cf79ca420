"""A picture's dense views at one scale: what the network says of its windows, class by class (OverFeat section 3.3)."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cache import Payload
from cache.errors import StageError
from stages.contract import Compute, ImageTask, ReadImage, image_attrs
from stages.dense.dense_pass import DensePass
from stages.networks.forward import device_of
from stages.networks.network import Network

from .scoring import window_scores


@dataclass(frozen=True)
class DenseCompute(Compute):
    """One picture at one scale to the arrays of :func:`~stages.classification.scoring.window_scores`, float64 [2, N].

    ``made_of`` is what the key depends on but the picture: of the network, and ``scale_px``.
    """

    on_device = True
    read_image: ReadImage
    network: Network
    made_of: dict[str, Any]
    device: str

    @cached_property
    def dense(self) -> DensePass:
        """The network, on the device of this process."""
        return DensePass(self.network, dtype=self.made_of["arithmetic"], device=device_of(self.device))

    def prepare(self) -> None:
        """Move the network to the device."""
        _ = self.dense

    def __call__(self, task: ImageTask) -> Payload:
        """The best of each class in the picture's windows, of either stride."""
        record = task.image
        try:
            logits = self.dense(self.read_image(record), self.made_of["scale_px"])
        except StageError as error:
            raise StageError(f"{record.file_name}: {error}") from error
        flips, rows, columns, _ = logits.shape
        attrs = {**self.made_of, "windows": [rows, columns], **image_attrs(record, flips * rows * columns)}
        return Payload(dict(window_scores(logits, self.dense.windows.pooling.stride)), attrs, "hdf5")
