"""torchvision's FasterRCNN on our trunk and with our limits: the peer of ``bench_faster`` and of ``peer_faster``.

:func:`stock` is torchvision's detector with parts that the caller chooses. :class:`Peer` is one whose parts start from
the tensors of a network of ours, and that takes what our trainings take.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign

from stages.boxes.geometry import Boxes
from stages.fast.images import ScaledSize
from stages.fast.pooling import RoiPooling
from stages.fast.rois import FIXED_STD
from stages.fast.settings import JointRoiSettings, RoiDetectSettings
from stages.faster.network import RegionNetwork
from stages.faster.proposer import scale_of
from stages.faster.settings import JointSettings, MapsSettings
from stages.rpn.head import RpnHead, margins
from stages.rpn.settings import AnchorSettings, ProposeSettings

ALL = 10**9  # where we have no limit and torchvision wants a number


@dataclass(frozen=True)
class Limits:
    """The parameters of a jointly trained detector that torchvision's has, too."""

    maps: MapsSettings = field(default_factory=MapsSettings)
    anchors: AnchorSettings = field(default_factory=AnchorSettings)
    rois: JointRoiSettings = field(default_factory=JointRoiSettings)
    joint: JointSettings = field(default_factory=JointSettings)
    propose: ProposeSettings = field(default_factory=ProposeSettings)
    detect: RoiDetectSettings = field(default_factory=RoiDetectSettings)


class Trunk(nn.Module):
    """Our trunk as torchvision's FasterRCNN takes one; shares the network's layers."""

    def __init__(self, of: RegionNetwork) -> None:
        super().__init__()
        self.graph, self.out_channels = of.trunk(), of.channels
        self._node = of.node

    def forward(self, x: Tensor) -> "OrderedDict[str, Tensor]":
        """Compute the shared map of an image [1, 3, h, w]."""
        return OrderedDict([("0", self.graph(x)[self._node])])


def stock(
    of: RegionNetwork, limits: Limits, *, rpn_head: nn.Module, box_head: nn.Module, box_predictor: nn.Module
) -> FasterRCNN:
    """Build torchvision's detector on a network's trunk, whose layers it shares, with its own anchors and RoIAlign."""
    anchors, rois, joint, propose, detect = limits.anchors, limits.rois, limits.joint, limits.propose, limits.detect
    return FasterRCNN(
        Trunk(of),
        min_size=limits.maps.short_px,
        max_size=limits.maps.long_px,
        rpn_anchor_generator=AnchorGenerator((tuple(int(s) for s in anchors.scales_px),), (tuple(anchors.ratios),)),
        rpn_head=rpn_head,
        rpn_pre_nms_top_n_train=joint.before_nms or ALL,
        rpn_post_nms_top_n_train=joint.after_nms,
        rpn_pre_nms_top_n_test=propose.before_nms or ALL,
        rpn_post_nms_top_n_test=propose.after_nms,
        rpn_nms_thresh=propose.nms_iou,
        rpn_fg_iou_thresh=anchors.positive_iou,
        rpn_bg_iou_thresh=anchors.negative_iou,
        rpn_batch_size_per_image=anchors.batch,
        rpn_positive_fraction=anchors.positive_fraction,
        box_roi_pool=MultiScaleRoIAlign(["0"], of.grid, 2),
        box_head=box_head,
        box_predictor=box_predictor,
        box_score_thresh=detect.score_floor,
        box_nms_thresh=detect.nms_iou,
        box_detections_per_img=detect.max_per_image or ALL,
        box_fg_iou_thresh=rois.fg_iou,
        box_bg_iou_thresh=rois.bg_iou,
        box_batch_size_per_image=rois.rois_per_image,
        box_positive_fraction=rois.fg_fraction,
        bbox_reg_weights=tuple(1 / std for std in FIXED_STD),
    )


class _RpnHead(nn.Module):
    """Our RPN's head as torchvision takes one: a margin and four numbers an anchor, as maps."""

    def __init__(self, own: RpnHead) -> None:
        super().__init__()
        self.own = own

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Take one map [1, c, h, w]; return objectness [1, A, h, w] and transforms [1, 4 A, h, w]."""
        (fmap,) = features
        h, w = fmap.shape[2:]
        logits, deltas = self.own(fmap)
        scores = margins(logits[0]).reshape(1, h, w, -1)
        return [scores.permute(0, 3, 1, 2)], [deltas.reshape(1, h, w, -1).permute(0, 3, 1, 2)]


class _Anchors(nn.Module):
    """Our anchors in our places, which torchvision's generator cannot make."""

    def __init__(self, of: RegionNetwork) -> None:
        super().__init__()
        assert of.rpn_shape is not None
        self._anchors, self._places = of.rpn_shape.anchors, of.places

    def forward(self, images: ImageList, features: list[Tensor]) -> list[Tensor]:
        """Return the anchors of one image: [float32 [h * w * A, 4]], px of the resized image."""
        (fmap,) = features
        grid = self._anchors.grid((int(fmap.shape[2]), int(fmap.shape[3])), self._places)
        return [torch.from_numpy(grid.astype(np.float32)).to(fmap.device)]


class _Fc(nn.Module):
    """Our fc6 and fc7, with what lies before and between them, as torchvision's box head; shares the layers."""

    def __init__(self, of: RegionNetwork) -> None:
        super().__init__()
        assert of.fast is not None
        self.fc, self._node = of.fast.fc, of.network.node("fc8")

    def forward(self, pooled: Tensor) -> Tensor:
        """Map pooled RoIs [n, c, k, k] to fc7 [n, d]."""
        fc7: Tensor = self.fc(torch.flatten(pooled, 1))[self._node]
        return fc7


class _Pooling(nn.Module):
    """Our pooling in the place of torchvision's RoIAlign; ``size`` is the image's that passes."""

    def __init__(self, pooling: RoiPooling) -> None:
        super().__init__()
        self._pooling = pooling
        self.size: ScaledSize | None = None

    def forward(self, features: "OrderedDict[str, Tensor]", boxes: list[Tensor], shapes: Any) -> Tensor:
        """Pool RoIs [n, 4] px of the resized image: [n, c, k, k]."""
        (fmap,), (rois,) = features.values(), boxes
        assert self.size is not None
        original = self.size.unscaled(rois.detach().cpu().numpy())
        return self._pooling(fmap, original, (self.size.scale_x, self.size.scale_y))


class PeerBatch(NamedTuple):
    """One image: float32 [1, 3, h, w]; its objects' boxes [m, 4], px of the resized image, and labels int64 [m] from
    0."""

    inputs: NDArray[np.float32]
    size: ScaledSize
    boxes: Boxes
    labels: NDArray[np.int64]


class Found(NamedTuple):
    """What is found in an image, px of the original: proposals [k, 4], best first; detections' boxes [m, 4], scores
    [m], labels int64 [m] from 0."""

    proposals: Boxes
    boxes: Boxes
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]


class Peer(nn.Module):
    """torchvision's detector with the layers of a network of ours, which it takes over, and one image at a time.

    Resizing and mirroring are ours; torchvision's ``GeneralizedRCNNTransform`` is left out. Background's four box
    outputs, which we do not have, are 0 and stay so: nothing gives them a gradient.
    """

    def __init__(self, of: RegionNetwork, limits: Limits, *, roi_pooling: bool = False) -> None:
        """Build it of a network with both heads; ``roi_pooling``: with our pooling in the place of RoIAlign."""
        super().__init__()
        assert of.rpn is not None and of.fast is not None
        predictor = FastRCNNPredictor(of.fast.cls_score.in_features, of.fast.n_classes + 1)
        predictor.cls_score.load_state_dict(of.fast.cls_score.state_dict())
        with torch.no_grad():
            for part in ("weight", "bias"):
                outputs = predictor.bbox_pred.get_parameter(part).zero_()
                outputs[4:] = of.fast.bbox_pred.get_parameter(part)
        self.model = stock(of, limits, rpn_head=_RpnHead(of.rpn), box_head=_Fc(of), box_predictor=predictor)
        self.model.rpn.anchor_generator = _Anchors(of)
        self._min_side_px = limits.propose.min_side_px
        self._pooling = _Pooling(of.pooling) if roi_pooling else None
        if self._pooling is not None:
            self.model.roi_heads.box_roi_pool = self._pooling

    @property
    def trunk(self) -> nn.Module:
        """The layers before the shared map, by the names that they have in ours."""
        found: nn.Module = self.model.backbone.graph
        return found

    def losses(self, batch: PeerBatch) -> dict[str, Tensor]:
        """Compute the four terms of an image's loss, by the names that ours have; in training mode."""
        device = next(self.parameters()).device
        wanted = {"boxes": torch.from_numpy(batch.boxes), "labels": torch.from_numpy(batch.labels) + 1}
        targets = [{name: tensor.to(device) for name, tensor in wanted.items()}]
        _, _, terms = self._run(batch.inputs, batch.size, targets)
        return {
            "rpn_cls": terms["loss_objectness"],
            "rpn_box": terms["loss_rpn_box_reg"],
            "cls": terms["loss_classifier"],
            "box": terms["loss_box_reg"],
        }

    @torch.inference_mode()
    def found(self, inputs: NDArray[np.float32], size: ScaledSize) -> Found:
        """Find the objects of an image; in evaluation mode."""
        proposals, detections, _ = self._run(inputs, size, None)
        found = {name: tensor.cpu().numpy() for name, tensor in detections.items()}
        boxes = size.unscaled(found["boxes"])
        return Found(size.unscaled(proposals.cpu().numpy()), boxes, found["scores"], found["labels"] - 1)

    def _run(
        self, inputs: NDArray[np.float32], size: ScaledSize, targets: list[dict[str, Tensor]] | None
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Do what ``GeneralizedRCNN.forward`` does between its transforms: proposals, detections, losses."""
        self.model.rpn.min_size = self._min_side_px * scale_of(size)
        if self._pooling is not None:
            self._pooling.size = size
        pixels = torch.from_numpy(inputs).to(next(self.parameters()).device, memory_format=torch.channels_last)
        shapes = [(size.height, size.width)]
        features = self.model.backbone(pixels)
        proposals, of_rpn = self.model.rpn(ImageList(pixels, shapes), features, targets)
        (boxes,) = proposals
        detections, of_rois = self.model.roi_heads(features, proposals, shapes, targets)
        return boxes, detections[0] if detections else {}, {**of_rpn, **of_rois}
