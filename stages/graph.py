"""Every stage, and the nodes of each kind of detector: the one page that says what there is and what reads what.

All dvc.yaml files are written from this page (``rcnn detector write``; a test holds them equal), params.yaml's groups
are those declared here, and ``pipeline`` runs what is named here. It imports settings alone, so that it is light.

Paths: ``${artifacts}``, ``${reports}`` are a detector's own folders (``artifacts``, ``reports`` for the root's R-CNN;
``artifacts/detectors/NAME``, ``reports/NAME`` for another), ``${node}`` the node's folder in the former. What stands
without is the project's: the dataset, the manifest and the proposals are every detector's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from .bbox.settings import BboxSettings
from .bbox.settings import check as check_bbox
from .classification.settings import ClassifySettings, ClassifySvmSettings
from .comparison.settings import CompareSettings
from .contract import Node, Stage
from .detections.settings import CombineSettings, DetectSettings
from .features.settings import FeaturesSettings, RegionSettings, check_layers
from .finetune.settings import FinetuneSettings
from .finetune.settings import check as check_finetune
from .manifest.settings import ManifestSettings
from .networks.settings import ArithmeticSettings, NetworkSettings
from .pretrain.settings import PretrainSettings
from .proposals.settings import ProposalsSettings
from .report.settings import ReportSettings
from .scenes.settings import ScenesSettings
from .scoring.settings import EvaluateSettings
from .svm.settings import SvmSettings
from .svm.settings import check as check_svm

ROOT = "rcnn"  # the detector of the project's own dvc.yaml and params.yaml
DATASET = "artifacts/datasets/${dataset}"
_MANIFEST = "artifacts/manifest/manifest.json"
_PROPOSALS = "artifacts/proposals/manifest.json"
SAVED = "detections"  # detections put aside, or brought from other programs: the user's, not a stage's

SCENES = Stage(
    name="scenes",
    version=2,
    run="stages.scenes.stage:run",
    settings={"scenes": ScenesSettings},
    outputs={"folder": "artifacts/datasets/scenes"},
)
MANIFEST = Stage(
    name="manifest",
    version=1,
    run="stages.manifest.stage:run",
    settings={"manifest": ManifestSettings},
    inputs={"registered": f"{DATASET}/manifest.json"},
    outputs={"manifest": _MANIFEST},
)
PROPOSALS = Stage(
    name="proposals",
    version=1,
    run="stages.proposals.stage:run",
    settings={"proposals": ProposalsSettings},
    seeded=True,
    inputs={"manifest": _MANIFEST},
    outputs={"manifest": _PROPOSALS},
)
PRETRAIN = Stage(
    name="pretrain",
    version=2,
    run="stages.pretrain.stage:run",
    settings={"pretrain": PretrainSettings, "network": NetworkSettings},
    seeded=True,
    inputs={"registered": DATASET},
    outputs={
        "weights": "${node}/weights.safetensors",
        "curve": "${node}/curve.csv",
        "trained": "${node}/trained.json",
    },
    trained=("weights", "curve"),
    on_device=True,
    plots=("curve",),
)
FINETUNE = Stage(
    name="finetune",
    version=2,
    run="stages.finetune.stage:run",
    settings={"finetune": FinetuneSettings},
    reads={"features": RegionSettings},
    seeded=True,
    inputs={"manifest": _MANIFEST, "proposals": _PROPOSALS, "weights": "${artifacts}/pretrain/weights.safetensors"},
    outputs={
        "weights": "${node}/weights.safetensors",
        "curve": "${node}/curve.csv",
        "maps": "${node}/manifest.json",
        "trained": "${node}/trained.json",
    },
    trained=("weights", "curve"),
    on_device=True,
    plots=("curve",),
    check=check_finetune,
)
FEATURES = Stage(
    name="features",
    version=1,
    run="stages.features.stage:run",
    settings={"features": FeaturesSettings},
    reads={"network": NetworkSettings},
    inputs={"manifest": _MANIFEST, "proposals": _PROPOSALS, "weights": "${artifacts}/finetune/weights.safetensors"},
    outputs={"manifest": "${node}/manifest.json"},
    check=check_layers,
)
SVM = Stage(
    name="svm",
    version=5,
    run="stages.svm.stage:run",
    settings={"svm": SvmSettings},
    seeded=True,
    inputs={
        "manifest": _MANIFEST,
        "features": "${artifacts}/features/manifest.json",
        "weights": "${artifacts}/finetune/weights.safetensors",
    },
    outputs={"model": "${node}/model.h5", "mining": "${node}/mining.csv", "trained": "${node}/trained.json"},
    trained=("model", "mining"),
    plots=("mining",),
    check=check_svm,
)
BBOX = Stage(
    name="bbox",
    version=4,
    run="stages.bbox.stage:run",
    settings={"bbox": BboxSettings},
    seeded=True,
    inputs={"manifest": _MANIFEST, "features": "${artifacts}/features/manifest.json"},
    outputs={"model": "${node}/model.h5", "trained": "${node}/trained.json"},
    trained=("model",),
    check=check_bbox,
)
DETECT = Stage(
    name="detect",
    version=6,
    run="stages.detections.detect_stage:run",
    settings={"detect": DetectSettings},
    inputs={
        "manifest": _MANIFEST,
        "features": "${artifacts}/features/manifest.json",
        "svm": "${artifacts}/svm/model.h5",
        "bbox": "${artifacts}/bbox/model.h5",
    },
    outputs={"manifest": "${node}/manifest.json"},
)
COMBINE = Stage(
    name="combine",
    version=2,
    run="stages.detections.combine_stage:run",
    settings={"combine": CombineSettings},
    inputs={"manifest": _MANIFEST, "detect": "${artifacts}/detect/manifest.json", "saved": SAVED},
    outputs={"manifest": "${node}/manifest.json"},
    optional=frozenset({"detect"}),
)
EVALUATE = Stage(
    name="evaluate",
    version=1,
    run="stages.evaluate.stage:run",
    settings={"evaluate": EvaluateSettings},
    seeded=True,
    inputs={"manifest": _MANIFEST, "proposals": _PROPOSALS, "detections": "${artifacts}/combine/manifest.json"},
    outputs={
        "metrics": "${reports}/metrics.json",
        "scores": "${reports}/scores.json",
        "pr": "${reports}/plots/pr.csv",
        "recall_iou": "${reports}/plots/recall_iou.csv",
        "errors": "${reports}/plots/errors.csv",
        "examples": "${reports}/examples.json",
        "operating_points": "${reports}/operating_points.json",
        "results": "${reports}/results",
    },
    metrics=("metrics",),
    plots=("pr", "recall_iou"),
)
REPORT = Stage(
    name="report",
    version=1,
    run="stages.report.stage:run",
    settings={"report": ReportSettings},
    reads_all=True,
    inputs={
        "manifest": _MANIFEST,
        "proposals": _PROPOSALS,
        "features": "${artifacts}/features/manifest.json",
        "detections": "${artifacts}/combine/manifest.json",
        "svm": "${artifacts}/svm/model.h5",
        "bbox": "${artifacts}/bbox/model.h5",
        "pretrain": "${artifacts}/pretrain/curve.csv",
        "finetune": "${artifacts}/finetune/curve.csv",
        "mining": "${artifacts}/svm/mining.csv",
        "scores": "${reports}/scores.json",
        "pr": "${reports}/plots/pr.csv",
        "recall_iou": "${reports}/plots/recall_iou.csv",
        "errors": "${reports}/plots/errors.csv",
        "examples": "${reports}/examples.json",
        "operating_points": "${reports}/operating_points.json",
    },
    outputs={"html": "${reports}/index.html"},
    optional=frozenset({"features", "svm", "bbox", "pretrain", "finetune", "mining"}),
)
CLASSIFY = Stage(
    name="classify",
    version=1,
    run="stages.classification.classify_stage:run",
    settings={"classify": ClassifySettings},
    reads={"network": ArithmeticSettings},
    inputs={"manifest": _MANIFEST, "weights": "${artifacts}/pretrain/weights.safetensors"},
    outputs={"manifest": "${node}/manifest.json", "report": "${reports}/classification.json"},
    metrics=("report",),
)
CLASSIFY_SVM = Stage(
    name="classify_svm",
    version=1,
    run="stages.classification.classify_svm_stage:run",
    settings={"classify_svm": ClassifySvmSettings},
    reads={"network": ArithmeticSettings},
    seeded=True,
    inputs={"manifest": _MANIFEST, "weights": "${artifacts}/pretrain/weights.safetensors"},
    outputs={"manifest": "${node}/manifest.json", "report": "${reports}/classification_svm.json"},
    metrics=("report",),
)

COMPARE = Stage(
    name="compare",
    version=1,
    run="stages.comparison.stage:run",
    settings={"compare": CompareSettings},
    reads={"evaluate": EvaluateSettings},
    seeded=True,
    inputs={"manifest": _MANIFEST, "proposals": _PROPOSALS},  # and every detector's list of detections
    outputs={"html": "reports/comparison/index.html", "figures": "reports/comparison/comparison.json"},
)


@dataclass(frozen=True)
class Place:
    """A stage as a kind of detector has it: the node's name, and the optional inputs that it lacks there."""

    stage: Stage
    name: str
    lacks: frozenset[str] = frozenset()


def place(stage: Stage, name: str = "", *, lacks: frozenset[str] = frozenset()) -> Place:
    """Put a stage into a graph, under its own name unless another is given."""
    if not lacks <= stage.optional:
        raise TypeError(f"stage {stage.name} cannot do without {', '.join(sorted(lacks - stage.optional))}")
    return Place(stage, name or stage.name, lacks)


@dataclass(frozen=True)
class Kind:
    """A kind of detector.

    Attributes:
        places: its own nodes, in running order.
        detections: the node that lists its detections before any combining; None for a kind that only joins others.
        test_nodes: the nodes that a new image passes, in order.
    """

    name: str
    meaning: str
    places: tuple[Place, ...]
    detections: str | None
    test_nodes: tuple[str, ...]


HEAD = tuple(map(place, (SCENES, MANIFEST, PROPOSALS)))  # every detector's
CLASSIFICATION = tuple(map(place, (CLASSIFY, CLASSIFY_SVM)))  # classification/dvc.yaml
COMPARISON = (place(COMPARE),)  # comparison/dvc.yaml
_BY_REGION = tuple(map(place, (PRETRAIN, FINETUNE, FEATURES, SVM, BBOX, DETECT, COMBINE, EVALUATE, REPORT)))
_JOINED = (place(COMBINE, lacks=COMBINE.optional), place(EVALUATE), place(REPORT, lacks=REPORT.optional))
_KINDS = (
    Kind(
        "rcnn",
        "R-CNN: a network's features of every region, SVMs, box regression",
        _BY_REGION,
        detections="detect",
        test_nodes=("proposals", "features", "detect"),
    ),
    Kind(
        "sppnet",
        "SPP-net: regions pooled from the whole image's conv5, SVMs, box regression",
        _BY_REGION,
        detections="detect",
        test_nodes=("proposals", "features", "detect"),
    ),
    Kind(
        "combined",
        "several detectors' scored windows, suppressed together",
        _JOINED,
        detections=None,
        test_nodes=("combine",),
    ),
)
KINDS: Mapping[str, Kind] = MappingProxyType({kind.name: kind for kind in _KINDS})
_PLACES = (*HEAD, *(one for kind in _KINDS for one in kind.places), *CLASSIFICATION, *COMPARISON)
STAGES: Mapping[str, Stage] = MappingProxyType({one.stage.name: one.stage for one in _PLACES})


def at(one: Place, detector: str = ROOT) -> Node:
    """Return the node with the paths that it has in this detector."""
    is_root = detector == ROOT
    artifacts = "artifacts" if is_root else f"artifacts/detectors/{detector}"
    folders = {
        "${artifacts}": artifacts,
        "${reports}": "reports" if is_root else f"reports/{detector}",
        "${node}": f"{artifacts}/{one.name}",
    }

    def paths(templates: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        for name, path in templates.items():
            first, slash, rest = path.partition("/")
            yield name, folders.get(first, first) + slash + rest

    inputs = {name: path for name, path in paths(one.stage.inputs) if name not in one.lacks}
    return Node(one.name, one.stage, inputs, dict(paths(one.stage.outputs)))


def root_nodes() -> Mapping[str, Node]:
    """Return the nodes of the root's detector and of what all detectors share, by name, in running order."""
    return MappingProxyType({one.name: at(one) for one in (*HEAD, *KINDS[ROOT].places, *CLASSIFICATION)})
