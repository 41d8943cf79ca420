"""Stages ``rpn``, ``fast`` and ``joint``: train the networks of Fast and Faster R-CNN, on images or on stored maps.

Each reads a network (``weights.safetensors``), puts new layers into it, trains, and writes it again, with the curve.
What they do alike is :class:`_Training`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from torch import Tensor

from cache import Artifact, digest_file, digest_json
from manifests.select import require_exhaustive
from stages.boxes.geometry import Boxes
from stages.contract import Context
from stages.fast.settings import FastSettings, JointRoiSettings
from stages.lists import of_dataset
from stages.networks.forward import device_of
from stages.networks.weights import class_names_meta
from stages.proposals.reading import proposals_key
from stages.rpn.propose import ProposalRule
from stages.rpn.settings import AnchorSettings, RpnSettings, SuppressionSettings
from stages.training.checkpoint import Checkpoint
from stages.training.curve import write_curve
from stages.training.loop import TrainingRun, torch_generator
from stages.training.settings import SolverSettings

from .fast_training import ImageRois, RoiTargets, fast_batches, fast_terms, prepare_fast
from .images import Inputs, TrainingImages
from .joint_training import JointBatch, JointLoss, joint_batches, start
from .lists import maps_of, trained_on
from .network import RegionNetwork, Shared, frozen_parameters, load_regions, save_regions
from .rpn_training import AnchorTargets, RpnBatch, fold, reach_lines, rpn_batches, rpn_shape, rpn_terms
from .settings import ImageSettings, JointSettings
from .training import (
    StoredMaps,
    batches,
    check_objects,
    fit,
    identity,
    image_digests,
    inputs_of,
    map_shapes,
    names_of,
    training_images,
    training_run,
)

B = TypeVar("B")  # whatever a batch is

_RPN_TERMS, _FAST_TERMS = ("train_rpn_cls", "train_rpn_box"), ("train_cls", "train_box")


def rpn(ctx: Context) -> None:
    """Train a Region Proposal Network (Faster R-CNN sections 3.1 and 3.2), or take what the store has of it.

    As ``rpn_1`` from ImageNet's weights with all convolutions; as ``rpn_2`` from the maps of the detector's
    convolutions, which it shares and leaves as they are. Cost: a forward and a backward pass of one image an iteration;
    from maps, of the RPN's own layers.
    """
    settings, stage = ctx.settings(RpnSettings), _Training(ctx, "rpn")
    network = stage.network
    images = stage.images(difficult=settings.difficult, mirror=settings.mirror)

    def begin(run: TrainingRun) -> _Plan[RpnBatch]:
        network.add_rpn(rpn_shape(settings, network), torch_generator(run.seed, "rpn", "new layers"))
        targets = AnchorTargets(network, images, settings)
        entries = targets.usable()
        for line in reach_lines(targets.coverage(len(stage.classes)), stage.classes):
            ctx.log.warning(line)
        rule, entry_of = targets.loss_rule(entries), batches(images, entries, 1, run)
        return _Plan(
            rpn=True,
            fast=False,
            draw=rpn_batches(targets, stage.inputs(images, settings.image_cache_mb), entry_of, run),
            loss=rpn_terms(rule, settings.precision),
            images_of=names_of(images, entry_of),
            classes=network.classes or stage.classes,  # of Fast R-CNN's layers, which are handed on as they are
            finish=lambda: fold(network, rule),
        )

    stage.train(settings, begin, named_by={"rpn": settings.identity()}, terms=_RPN_TERMS)


def fast(ctx: Context) -> None:
    """Train Fast R-CNN on proposals (Fast R-CNN section 2.3; steps 2 and 4 of Faster R-CNN section 3.2), or take it.

    As ``fast`` and ``fast_1`` from ImageNet's weights with the convolutions that ``maps.frozen`` leaves; as ``fast_2``
    from stored maps, so that its fully connected layers alone are trained. Cost: a forward and a backward pass of two
    images and 128 regions an iteration.
    """
    settings, stage = ctx.settings(FastSettings), _Training(ctx, "fast")
    network, classes = stage.network, stage.classes
    proposals = of_dataset(ctx.artifact("proposals"), ctx.input("manifest"), ctx.shown("proposals"))
    regions = {record.id: proposals_key(proposals, record) for record in stage.records}
    images = stage.images(difficult=settings.difficult, mirror=settings.mirror)

    def begin(run: TrainingRun) -> _Plan[list[ImageRois]]:
        map_shapes(network, images)
        boxes = [_boxes(ctx, proposals, regions[record.id]) for record in stage.records]
        targets = RoiTargets(images, boxes, settings, len(classes))
        entries = targets.usable()
        _say_counts(ctx, targets, classes)
        kept = settings.heads == "kept" and network.fast is not None and network.classes == classes
        if settings.heads == "kept" and network.fast is not None and not kept:
            ctx.log.warning(
                f"fast.heads: kept, but those of {ctx.shown('weights')} are for {', '.join(network.classes)}; new ones "
                "are drawn"
            )
        norm = network.norm if kept and network.norm is not None else targets.norm()
        if not kept:
            network.fit_fc6(torch_generator(run.seed, "fast", "fc6"))
            network.add_fast(len(classes), torch_generator(run.seed, "fast", "new layers"))
        pooling = prepare_fast(network, settings, norm)
        entries_of = batches(images, entries, settings.images_per_batch, run)
        return _Plan(
            rpn=False,
            fast=True,
            draw=fast_batches(targets, norm, stage.inputs(images, settings.image_cache_mb), entries_of, run),
            loss=fast_terms(pooling, settings),
            images_of=names_of(images, entries_of),
            classes=classes,
        )

    stage.train(settings, begin, named_by={"fast": settings.identity()}, terms=_FAST_TERMS, keys=[regions])


def joint(ctx: Context) -> None:
    """Train RPN and Fast R-CNN at once ("approximate joint training", Faster R-CNN section 3.2), or take it.

    One loss of four terms; proposals are made on the way from the RPN as it is, and no gradient passes through their
    boxes. Cost: a forward and a backward pass of one image and 128 regions, ``joint.iter_size`` times an iteration.
    """
    settings, stage = ctx.settings(JointSettings), _Training(ctx, "joint")
    anchors, rois = ctx.settings(AnchorSettings), ctx.settings(JointRoiSettings)
    suppression = ctx.settings(SuppressionSettings)
    network = stage.network
    images = stage.images(difficult=anchors.difficult, mirror=settings.mirror, group="rpn")
    shown = stage.images(difficult=rois.difficult, mirror=settings.mirror, group="fast")

    def begin(run: TrainingRun) -> _Plan[JointBatch]:
        begun = start(network, images, anchors, rois, len(stage.classes), run)
        for line in reach_lines(begun.targets.coverage(len(stage.classes)), stage.classes):
            ctx.log.warning(line)
        keep = ProposalRule(settings.before_nms, suppression.nms_iou, settings.after_nms, suppression.min_side_px)
        inputs = stage.inputs(images, settings.image_cache_mb)
        return _Plan(
            rpn=True,
            fast=True,
            draw=joint_batches(begun.targets, shown, inputs, begun.entry_of, run),
            loss=JointLoss(begun.rule, keep, rois, begun.norm, begun.pooling, settings.precision),
            images_of=names_of(images, begun.entry_of),
            classes=stage.classes,
            finish=lambda: fold(network, begun.rule),
        )

    named_by = {
        "joint": settings.identity(),
        "rpn": anchors.model_dump(mode="json"),
        "fast": rois.identity(),
        "propose": suppression.model_dump(mode="json"),
    }
    stage.train(settings, begin, named_by=named_by, terms=(*_RPN_TERMS, *_FAST_TERMS), iter_size=settings.iter_size)


def _boxes(ctx: Context, proposals: Artifact, key: str) -> Boxes:
    boxes: Boxes = ctx.store.get(proposals.stage, key, ["boxes"]).arrays["boxes"]
    return boxes


def _say_counts(ctx: Context, targets: RoiTargets, classes: tuple[str, ...]) -> None:
    """Tell how many regions there are, and of which class none is foreground."""
    background, *foreground = targets.counts().tolist()
    ctx.log.info(
        f"{sum(foreground)} foreground and {background} background regions of {len(targets.images.records)} images"
    )
    for name, count in zip(classes, foreground, strict=True):
        if not count:
            ctx.log.warning(f"class {name!r} has no foreground region: it cannot be learned")
    if not background:
        ctx.log.warning("no background regions (no proposals?); mini-batches hold foreground only")


@dataclass(frozen=True)
class _Plan(Generic[B]):
    """How a network whose heads are in place is trained.

    Attributes:
        rpn, fast: whether the network's RPN runs, and its layers behind the regions.
        draw, loss: of the training loop.
        images_of: names the images of batch ``number``, for the message of a loss that is no number.
        classes: what the heads that are written score.
        finish: what is done to the network when it is trained.
    """

    rpn: bool
    fast: bool
    draw: Callable[[int], B]
    loss: Callable[[Shared, B], Mapping[str, Tensor]]
    images_of: Callable[[int], str]
    classes: Sequence[str]
    finish: Callable[[], None] = lambda: None


class _Training:
    """A stage that trains parts of a shared network, on images or on the maps of its input ``maps``.

    Attributes:
        group: of its parameters: rpn, fast or joint.
        scale: at which images are seen.
        network: as it begins.
        classes, records: the dataset's classes, and the training images.
        maps: what is read in place of pixels; None: pixels are.
    """

    def __init__(self, ctx: Context, group: str) -> None:
        """Read what the stage is given; StageError for images annotated in part, and for maps of another network."""
        self._ctx, self.group = ctx, group
        self.scale = ctx.settings(ImageSettings)
        self.network: RegionNetwork = load_regions(ctx.input("weights"), self.scale.layer)
        self.classes = ctx.dataset().classes
        self.records = ctx.dataset().split("train")
        require_exhaustive(self.records, group)
        self.maps: Artifact | None = None
        if ctx.has("maps"):
            made_of = trained_on(self.network, self.scale)
            self.maps = maps_of(ctx.artifact("maps"), made_of, ctx.input("manifest"), ctx.shown("maps"))

    def images(self, *, difficult: bool, mirror: bool, group: str | None = None) -> TrainingImages:
        """Return the training images with the objects that count; StageError naming ``group`` where there are none."""
        images = training_images(self.records, self.scale, difficult=difficult, mirror=mirror)
        check_objects(images, group or self.group)
        return images

    def inputs(self, images: TrainingImages, cache_mb: int) -> Inputs:
        """Return what gives the network's input of each of these images."""
        source = self._ctx.image if self.maps is None else StoredMaps(self._ctx.store, self.maps)
        return inputs_of(source, self.network, images, cache_mb)

    def train(
        self,
        settings: SolverSettings,
        begin: Callable[[TrainingRun], _Plan[Any]],
        *,
        named_by: Mapping[str, Any],
        terms: Sequence[str],
        keys: Sequence[Mapping[int, str]] = (),
        iter_size: int = 1,
    ) -> None:
        """Train, or take what was trained before from the store; writes outputs ``weights`` and ``curve``.

        Args:
            begin: puts the new layers into the network and says how it is trained; called where nothing is stored.
            named_by: the parameters that the result depends on, by their groups, but for ``maps``.
            terms: columns of the curve beside the iteration and the whole loss.
            keys: of other stages' objects that the result depends on, each by the image's id.
        """
        ctx, network = self._ctx, self.network
        params = identity(
            network,
            seed=ctx.seed,
            node=ctx.node.name,
            classes=self.classes,
            device=ctx.device,
            maps=self.scale.model_dump(mode="json"),
            **named_by,
        )
        read = (*keys, *(() if self.maps is None else (self.maps.keys,)))
        inputs = {
            "images": digest_json(image_digests(self.records, *read)),
            "weights": digest_file(ctx.input("weights")),
        }
        checkpoint = Checkpoint(ctx.work_dir(), {"version": ctx.node.version, **params, **inputs})
        name, stays = ctx.node.name, set[str]()
        if self.maps is None:
            stays = frozen_parameters(network.network, network.layer, self.scale.frozen)
        run = training_run(settings, name, self.group, seed=ctx.seed, workers=ctx.workers, iter_size=iter_size)

        def teach() -> None:
            plan = begin(run)
            network.to(device_of(ctx.device))
            curve = fit(
                Shared(network, trunk=self.maps is None, rpn=plan.rpn, fast=plan.fast),
                settings,
                frozen=stays,
                draw=plan.draw,
                loss=plan.loss,
                images_of=plan.images_of,
                run=run,
                checkpoint=checkpoint,
                log=ctx.log,
            )
            plan.finish()
            save_regions(ctx.output("weights"), network, {"stage": name, **class_names_meta(plan.classes)})
            write_curve(ctx.output("curve"), ("iteration", "train_loss", *terms), curve)
            ctx.after_commit(checkpoint.remove)

        ctx.trained(params, inputs, teach)
