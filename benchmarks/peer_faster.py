"""Our jointly trained Faster R-CNN beside torchvision's on a project's dataset: trained alike, scored by our evaluator.

    python -m benchmarks.peer_faster PROJECT --seeds 1 2 3                 # trains and tests both, prints the table
    python -m benchmarks.peer_faster PROJECT --seeds 1 2 3 --roi-pooling   # torchvision's with our RoI pooling
    python -m benchmarks.peer_faster PROJECT --show                        # prints what has been run so far

The detector (``--detector joint``) is of kind joint, with the project's parameters; ``--iterations`` replaces
``joint.iterations`` alone. For each seed ours is what ``rcnn -d joint run pretrain joint`` gives with that seed: the
stages run, and write to ``artifacts/peer_faster/`` in place of the detector's own folder. Results are kept in
``reports/peer_faster.json`` (``--out``) after each training, and both trainings have checkpoints, so that a killed run
goes on where it stood. A result that the store has already is not trained again, and then its time is not known.

**Equal in both**: every tensor before the first step (trunk, RPN, fc6, fc7, last layers), the images' order and flips,
their pixels at the network's input, objects, anchors, thresholds, numbers of anchors and RoIs, least sides of
proposals, dropout, frozen layers, Caffe's solver with its multipliers and schedule, images a step, and the test's
limits. torchvision's are: labelling and sampling of anchors and RoIs, proposals, both losses, RoIAlign, the layers for
classes and boxes, and the detections.

**What still differs**:

- torchvision pools RoIs by RoIAlign (2 x 2 samples a bin, cells at whole strides, not ``aligned``). With
  ``--roi-pooling`` it has the project's own pooling (``fast.pooling``, ``fast.cells``), and this difference is gone.
- The RoIs' box loss bends at 1/9 there, here at 1 (the paper), so that near its end it weighs up to nine times as much.
  With ``fast.sigma: 3`` this difference is gone.
- ``rpn.border_px``: torchvision trains on anchors that cross the image's edges, too. null: so do ours.
- Which anchors, RoIs and dropout masks are drawn: other generators, of the same seed. Of an odd share torchvision
  rounds down, and an object that no anchor meets makes every anchor a positive.
- Crowd regions: anchors and proposals in one are no background here, and are there.
- Proposals: torchvision drops small ones after the best ``before_nms`` are taken, here others take their place; it
  ranks by probabilities, which float32 rounds to 1, and moves boxes in float32, here in float64.
- Background has four box outputs there; they start at 0, are never trained or read, and stay 0.
- Maps of test images are rounded to ``maps.storage`` here; ties at ``roi_detect.max_per_image`` all stay here.
- ``combine`` is left out of both.

Parameters for which torchvision has no like are refused. Seconds a step are medians over the steps of one training
after another, not by turns (``bench_faster`` takes turns); peak memory is the process's while it trains, or the GPU's.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision

from benchmarks.torchvision_faster import Found, Limits, Peer, PeerBatch
from cache import atomic_write, digest_file, make_dirs
from cache.errors import USER_ERRORS, ParamsError, StageError
from manifests import ImageRecord
from manifests.images import Pixels
from pipeline.context import RunContext, registered_folder
from pipeline.detectors import Layout, layout_of
from pipeline.graph import nodes_of
from pipeline.params import Params, load_params, read_kind
from pipeline.progress import Reporter
from pipeline.timings import peak_rss_mb, reset_peak
from stages.contract import Node, S
from stages.fast.images import network_image, scaled_size
from stages.fast.settings import JointRoiSettings, RoiDetectSettings
from stages.faster.joint_training import start
from stages.faster.maps import MapPass
from stages.faster.network import frozen_parameters, load_regions
from stages.faster.proposer import Proposer
from stages.faster.scorer import RoiScorer
from stages.faster.settings import ImageSettings, JointSettings, MapsSettings
from stages.faster.training import inputs_of, names_of, training_images, training_run
from stages.networks.forward import deterministic, device_of
from stages.networks.settings import ArithmeticSettings, NetworkSettings
from stages.rpn.settings import AnchorSettings, ProposeSettings
from stages.scoring.metrics import proposal_metrics, score
from stages.scoring.objects import FlatDetections, GroundTruth
from stages.scoring.proposals import class_coverage, proposal_overlaps
from stages.scoring.settings import EvaluateSettings
from stages.training.checkpoint import Checkpoint
from stages.training.loop import train
from stages.training.solver import MomentumSGD, StepSchedule, caffe_multipliers

SIDES = ("ours", "torchvision")
PROPOSALS = 300  # the best of an image, of which recall is taken
_GROUPS = ("manifest", "network", "pretrain", "maps", "rpn", "fast", "joint", "propose", "roi_detect", "evaluate")
_VERSION = 1  # of what torchvision's training here means, in its checkpoints
_PERCENT, _SECONDS, _MIB = (100, "{:.1f}", "{:+.1f}"), (1, "{:.3f}", "{:+.3f}"), (1, "{:.0f}", "{:+.0f}")
# Row, key of a side's figures, and how it is shown: a factor, and the forms of a value and of a difference.
ROWS = (
    ("VOC 2007 mAP, %", "voc2007", _PERCENT),
    ("VOC 2010 mAP, %", "voc2010", _PERCENT),
    ("COCO AP, %", "coco", _PERCENT),
    (f"recall at {PROPOSALS}, IoU .5, %", "recall_50", _PERCENT),
    (f"recall at {PROPOSALS}, IoU .7, %", "recall_70", _PERCENT),
    ("s a training step", "step_s", _SECONDS),
    ("peak memory, MiB", "peak_mib", _MIB),
)
Figures = dict[str, float | None]
Results = dict[str, Figures]  # of one seed, by side


class Timed(Reporter):
    """The log of a training that remembers when each step ended."""

    def __init__(self, stage: str) -> None:
        super().__init__(stage)
        self._ends: list[float] = []

    def progress(self, done: int, total: int, unit: str, note: str = "") -> None:
        """Note the time, and show the progress."""
        if unit == "iterations":
            self._ends.append(time.monotonic())
        super().progress(done, total, unit, note)

    @property
    def step_s(self) -> float | None:
        """Median seconds from one step to the next; None where there were not two."""
        taken = [after - before for before, after in pairwise(self._ends)]
        return statistics.median(taken) if taken else None


@dataclass(frozen=True)
class Comparison:
    """One detector of a project that is compared: its parameters, but for the seed, and torchvision's pooling."""

    layout: Layout
    params: Params
    roi_pooling: bool = False

    def folder(self, seed: int) -> str:
        """Return the path, below the project, of the folder of a seed's lists and weights."""
        return f"artifacts/peer_faster/{self.layout.name}-{seed}"

    def of_seed(self, seed: int, name: str) -> RunContext:
        """Return what node ``name`` runs in with this seed; what it writes lies in the seed's folder."""
        params = self.params.model_copy(update={"seed": seed})
        nodes = {key: _moved(node, self.folder(seed)) for key, node in nodes_of(self.layout, params).items()}
        return RunContext(nodes[name], self.layout, params, nodes)

    def of(self, group: str, model: type[S]) -> S:
        """Return the parameters of a group."""
        return self.params.groups.of(group, model)

    @property
    def limits(self) -> Limits:
        """The parameters that torchvision's detector is built with."""
        return Limits(
            self.of("maps", MapsSettings),
            self.of("rpn", AnchorSettings),
            self.of("fast", JointRoiSettings),
            self.of("joint", JointSettings),
            self.of("propose", ProposeSettings),
            self.of("roi_detect", RoiDetectSettings),
        )

    @property
    def device(self) -> torch.device:
        """The device on which networks run."""
        return torch.device(device_of(self.params.execution.device))

    def identity(self) -> dict[str, Any]:
        """Return what results depend on beside the seed, as JSON; results of another are refused."""
        registered = registered_folder(self.layout.project, self.params.dataset) / "manifest.json"
        groups = self.params.model_dump(mode="json", include=set(_GROUPS))
        groups["joint"] = self.of("joint", JointSettings).identity()
        weights = self.layout.project / self.of("network", NetworkSettings).weights
        versions = {"torch": torch.__version__, "torchvision": torchvision.__version__, "peer": _VERSION}
        return {
            "detector": self.layout.name,
            "dataset": self.params.dataset,
            "images": digest_file(registered),
            "weights": digest_file(weights) if weights.is_file() else None,
            "device": str(self.device),
            "roi_pooling": self.roi_pooling,
            **versions,
            **groups,
        }


def _moved(node: Node, folder: str) -> Node:
    """Return a node that reads and writes below ``folder`` what else lies in the project's artifacts."""

    def moved(path: str) -> str:
        inside = path.removeprefix("artifacts/")
        return path if inside == path or inside.startswith("datasets/") else f"{folder}/{inside}"

    inputs, outputs = ({name: moved(path) for name, path in paths.items()} for paths in (node.inputs, node.outputs))
    return Node(node.name, node.stage, inputs, outputs)


def opened(project: Path, detector: str, iterations: int | None, *, roi_pooling: bool) -> Comparison:
    """Read a project's parameters; ParamsError, a line each, for those with which the two cannot be compared."""
    layout = layout_of(project, detector)
    kind = read_kind(layout).name
    if kind != "joint":
        raise ParamsError(
            f"{layout.params_file}: kind: {kind}; only a detector of kind joint has a peer in torchvision"
        )
    params = load_params(layout)
    if iterations is not None:
        own = params.groups.of("joint", JointSettings)
        params = params.model_copy(update={"joint": own.model_copy(update={"iterations": iterations})})
    made = Comparison(layout, params, roi_pooling)
    if problems := [f"{layout.params_file}: {line}" for line in _unlike(made)]:
        raise ParamsError("\n".join(problems))
    if not (registered_folder(project, params.dataset) / "manifest.json").exists():
        raise ParamsError(f"{project / 'params.yaml'}: dataset {params.dataset} is not registered; import it first")
    return made


def _unlike(of: Comparison) -> Iterator[str]:
    """Tell of each parameter for which torchvision has no like."""
    limits = of.limits
    rpn, fast, propose, detect = limits.anchors, limits.rois, limits.propose, limits.detect
    if rpn.loss != "authors":
        yield f"rpn.loss: {rpn.loss}; torchvision's is the authors', set it so"
    if rpn.difficult != fast.difficult:
        yield "rpn.difficult and fast.difficult: torchvision has one list of objects; set them alike"
    if fast.bg_iou_low > 0:
        yield f"fast.bg_iou_low: {fast.bg_iou_low:g}; torchvision has no such limit, set it to 0"
    if propose.nms_iou is None or propose.rank != "score" or not propose.regress:
        yield "propose: nms_iou null, rank random and regress false are Table 1's; torchvision has none of them"
    if detect.rank_factor is not None or detect.svd is not None:
        yield "roi_detect: torchvision has neither rank_factor nor svd; set both to null"
    if detect.scales_px is not None:
        shown = list(detect.scales_px)
        yield f"roi_detect.scales_px: {shown}; torchvision looks at an image at one scale, set it to null"
    if limits.joint.precision != "float32" or of.of("network", ArithmeticSettings).dtype != "float32":
        yield "joint.precision, network.dtype: both trainings are of float32 here; set them to it"


def train_ours(of: Comparison, seed: int) -> Figures:
    """Train ours by its stage, or take from the store what was trained before; return what it cost."""
    log = Timed(f"{of.layout.name} joint, seed {seed}")
    _start_peak(of.device)
    _run(of.of_seed(seed, "joint"), log)
    return {"step_s": log.step_s, "peak_mib": _peak_mib(of.device) if log.step_s else None}


def _run(context: RunContext, log: Reporter | None = None) -> None:
    """Run a node."""
    context.log = log or context.log
    context.discard_partial()
    try:
        context.node.stage.load()(context)
        context.commit()
    finally:
        context.discard_partial()


def train_theirs(of: Comparison, seed: int) -> tuple[Peer, Checkpoint, Figures]:
    """Train torchvision's from where ours starts, from a checkpoint where there is one.

    Returns the detector in evaluation mode, the checkpoint, which is to be removed once its scores are kept, and what
    the training cost.
    """
    context, limits = of.of_seed(seed, "joint"), of.limits
    settings, scale = limits.joint, of.of("maps", ImageSettings)
    network = load_regions(context.input("weights"), scale.layer)
    dataset = context.dataset()
    images = training_images(dataset.split("train"), scale, difficult=limits.anchors.difficult, mirror=settings.mirror)
    run = training_run(settings, "joint", "joint", seed=seed, workers=context.workers, iter_size=settings.iter_size)
    begun = start(network, images, limits.anchors, limits.rois, len(dataset.classes), run)
    given = inputs_of(context.image, network, images, settings.image_cache_mb)
    peer = Peer(network, limits, roi_pooling=of.roi_pooling).to(of.device)
    for name in frozen_parameters(network.network, network.layer, scale.frozen):
        peer.trunk.get_parameter(name).requires_grad_(False)
    multipliers = caffe_multipliers(peer, decayed_biases=True)
    weights = digest_file(context.input("weights"))
    checkpoint = Checkpoint(
        of.layout.project / of.folder(seed) / "torchvision", {"seed": seed, "weights": weights, **of.identity()}
    )

    def draw(number: int) -> PeerBatch:
        (entry,) = begun.entry_of(number)
        size, objects = images.sizes[entry.image], images.objects(entry)
        return PeerBatch(given(entry), size, size.scaled(objects.boxes), objects.labels)

    log = Timed(f"torchvision, seed {seed}")
    _start_peak(of.device)
    train(
        peer,
        MomentumSGD(peer, multipliers, momentum=settings.momentum, weight_decay=settings.weight_decay),
        schedule=StepSchedule(settings.lr, settings.gamma, settings.step),
        draw=draw,
        loss=Peer.losses,
        run=run,
        checkpoint=checkpoint,
        log=log,
        batch_name=names_of(images, begun.entry_of),
    )
    return peer.eval(), checkpoint, {"step_s": log.step_s, "peak_mib": _peak_mib(of.device)}


def ours_at_work(of: Comparison, seed: int) -> Callable[[ImageRecord, Pixels], Found]:
    """Return what finds the objects of an image as the stages propose and roi_detect do."""
    limits, device = of.limits, str(of.device)
    network = load_regions(of.layout.project / of.of_seed(seed, "joint").node.outputs["weights"])
    map_pass = MapPass(network, limits.maps, device)
    proposer, scorer = Proposer(network, limits.propose, seed, device), RoiScorer(network, limits.detect, device)

    def found(record: ImageRecord, pixels: Pixels) -> Found:
        fmap, size = map_pass(pixels, record.file_name), map_pass.size_of(record.width, record.height)
        boxes = proposer(fmap, size, record.sha256, training=False).boxes
        kept = scorer(fmap, size, boxes, record.width, record.height).bbox
        return Found(boxes, kept.boxes, kept.scores, kept.labels)

    return found


def theirs_at_work(of: Comparison, seed: int, peer: Peer) -> Callable[[ImageRecord, Pixels], Found]:
    """Return what finds the objects of an image by torchvision's detector."""
    spec = load_regions(of.of_seed(seed, "joint").input("weights")).network.input
    maps = of.limits.maps

    def found(record: ImageRecord, pixels: Pixels) -> Found:
        size = scaled_size(record.width, record.height, maps.short_px, maps.long_px)
        with deterministic(of.device):
            return peer.found(network_image(pixels, spec, size), size)

    return found


def tested(of: Comparison, seed: int, find: Callable[[ImageRecord, Pixels], Found]) -> Figures:
    """Search the test images, and score what is found by our evaluator; StageError where there are none."""
    context = of.of_seed(seed, "joint")
    dataset, read = context.dataset(), context.image
    records = dataset.split("test")
    if not records:
        raise StageError(f"dataset {dataset.name}: there is no test image to score; set manifest.test")
    found = []
    for done, record in enumerate(records, 1):
        found.append(find(record, read(record)))
        context.log.progress(done, len(records), "test images")
    return scored(found, records, dataset.classes, of.of("evaluate", EvaluateSettings).voc_iou)


def scored(found: Sequence[Found], records: Sequence[ImageRecord], classes: Sequence[str], voc_iou: float) -> Figures:
    """Return mAP of the detections and recall of the best proposals, as the stage evaluate takes them."""
    truth = GroundTruth.of(records, len(classes))
    detections = FlatDetections.of([(one.boxes, one.scores, one.labels) for one in found])
    scores = score(detections, truth, classes, voc_iou, np.zeros((0, len(records)), np.int64)).metrics
    best = [one.proposals[:PROPOSALS] for one in found]
    covered = class_coverage(truth, proposal_overlaps(truth, best))
    recall = proposal_metrics(*covered, classes, sum(map(len, best)), len(records))
    means = {"voc2007": scores["voc2007"]["mAP"], "voc2010": scores["voc2010"]["mAP"], "coco": scores["coco"]["AP"]}
    return means | {name: recall[name] for name in ("recall_50", "recall_70")}


def _start_peak(device: torch.device) -> None:
    reset_peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak_mib(device: torch.device) -> float:
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else peak_rss_mb()


def run_seed(of: Comparison, seed: int, known: Results, keep: Callable[[str, Figures], None]) -> None:
    """Train and test what is not ``known`` of a seed, and ``keep`` each side's figures as soon as they are there."""
    if set(SIDES) <= known.keys():
        return
    for name in ("manifest", "pretrain"):
        _run(of.of_seed(seed, name))
    if "ours" not in known:
        cost = train_ours(of, seed)
        keep("ours", {**tested(of, seed, ours_at_work(of, seed)), **cost})
    if "torchvision" not in known:
        peer, checkpoint, cost = train_theirs(of, seed)
        keep("torchvision", {**tested(of, seed, theirs_at_work(of, seed, peer)), **cost})
        checkpoint.remove()


def read_results(out: Path, identity: Mapping[str, Any] | None = None) -> dict[str, Results]:
    """Read what is kept, by seed; ParamsError for a foreign file, and for results of another ``identity``."""
    if not out.exists():
        return {}
    try:
        document = json.loads(out.read_text(encoding="utf-8"))
        made_of, seeds = document["made_of"], document["seeds"]
        kept = {seed: {side: dict(figures) for side, figures in sides.items()} for seed, sides in seeds.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ParamsError(f"{out}: holds no results of this program ({error!r}); name another --out") from None
    if identity is not None and made_of != identity:
        other = [name for name in sorted({*made_of, *identity}) if made_of.get(name) != identity.get(name)]
        raise ParamsError(f"{out}: results of another {', '.join(other)}; name another --out, or remove the file")
    return kept


def table(results: Mapping[str, Results]) -> str:
    """Say the means over the seeds of which both sides are known, with standard deviations, in Markdown."""
    both = {seed: sides for seed, sides in results.items() if set(SIDES) <= sides.keys()}
    lines = [["", *SIDES, "difference"], ["---"] * 4]
    for title, name, (factor, form, signed) in ROWS:
        columns = [[both[seed][side].get(name) for seed in both] for side in SIDES]
        pairs = [(a, b) for a, b in zip(*columns, strict=True) if a is not None and b is not None]
        values = [[value for value in column if value is not None] for column in columns]
        shown = [_spread([factor * value for value in one], form, form) for one in values]
        lines.append([title, *shown, _spread([factor * (a - b) for a, b in pairs], signed, form)])
    return "\n".join(["| " + " | ".join(line) + " |" for line in lines] + ["", f"Seeds: {', '.join(both) or 'none'}."])


def _spread(values: Sequence[float], form: str, deviation: str) -> str:
    if not values:
        return "–"
    spread = f" ± {deviation.format(statistics.stdev(values))}" if len(values) > 1 else ""
    return form.format(statistics.fmean(values)) + spread


def compare(of: Comparison, seeds: Sequence[int], out: Path) -> dict[str, Results]:
    """Run the seeds of which something is not known yet; return all that is known, and keep it in ``out``."""
    identity = of.identity()
    results = read_results(out, identity)
    make_dirs(out.parent)
    for seed in seeds:
        known = results.setdefault(str(seed), {})

        def keep(side: str, figures: Figures, known: Results = known) -> None:
            known[side] = figures
            text = json.dumps({"made_of": identity, "seeds": results}, indent=1, allow_nan=False)
            atomic_write(out, text.encode())

        run_seed(of, seed, dict(known), keep)
    return results


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


def _seed(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"{text} is no seed, a number from 0 to 4294967295")
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("--detector", default="joint", help="default: joint")
    parser.add_argument("--seeds", nargs="+", type=_seed, default=[1, 2, 3])
    parser.add_argument("--iterations", type=_count, help="default: joint.iterations of the detector")
    parser.add_argument("--roi-pooling", action="store_true", help="give torchvision's detector our RoI pooling")
    parser.add_argument("--out", type=Path, help="default: PROJECT/reports/peer_faster.json")
    parser.add_argument("--show", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    name = "peer_faster_roi_pooling.json" if arguments.roi_pooling else "peer_faster.json"
    out = arguments.out or arguments.project / "reports" / name
    try:
        if arguments.show:
            results = read_results(out)
        else:
            chosen = {"iterations": arguments.iterations, "roi_pooling": arguments.roi_pooling}
            of = opened(arguments.project, arguments.detector, **chosen)
            results = compare(of, list(dict.fromkeys(arguments.seeds)), out)
    except USER_ERRORS as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    print(table(results))


if __name__ == "__main__":
    main()
