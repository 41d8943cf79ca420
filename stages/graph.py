"""Every stage, and the nodes of each kind of detector: the one page that says what there is and what reads what.

All dvc.yaml files are written from this page (``rcnn detector write``; a test holds them equal), params.yaml's groups
are those declared here, and ``pipeline`` runs what is named here. It imports settings alone, so that it is light.

Paths: ``${artifacts}``, ``${reports}`` are a detector's own folders (``artifacts``, ``reports`` for the root's R-CNN;
``artifacts/detectors/NAME``, ``reports/NAME`` for another), ``${node}`` the node's folder in the former. What stands
without is the project's: the dataset, the manifest and the proposals are every detector's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from .bbox.settings import BboxSettings
from .bbox.settings import check as check_bbox
from .classification.settings import ClassifySettings, ClassifySvmSettings
from .classification.settings import check_scales as check_dense
from .comparison.settings import CompareSettings
from .contract import Node, Stage
from .detections.settings import CombineSettings, DetectSettings
from .diagnosis.settings import DiagnoseSettings
from .fast.settings import FastSettings, JointRoiSettings, RoiDetectSettings, SourceSettings
from .faster.settings import FastMirror, ImageSettings, JointSettings, MapsSettings, RpnMirror, check_maps
from .faster.settings import check as check_shared
from .features.settings import FeaturesSettings, RegionSettings, check_layers
from .finetune.settings import FinetuneSettings
from .finetune.settings import check as check_finetune
from .manifest.settings import ManifestSettings
from .networks.settings import ArithmeticSettings, NetworkSettings
from .overfeat.settings import (
    DenseMapsSettings,
    DenseMirror,
    FinetuneDenseSettings,
    HeldOutSettings,
    LocalisationSettings,
    MergeSettings,
    RegressMirror,
    RegressSettings,
    SlideSettings,
    TopSettings,
    check_t,
    check_windows,
)
from .pretrain.settings import PretrainSettings
from .proposals.settings import ProposalsSettings
from .report.settings import ReportSettings
from .rpn.settings import AnchorSettings, ProposeSettings, RpnSettings, RpnShapeSettings, SuppressionSettings
from .scenes.settings import ScenesSettings
from .scoring.settings import EvaluateSettings
from .segmentation.settings import (
    BoxFeaturesSettings,
    FurtherRegressorSettings,
    HeldOutRegressorSettings,
    PasteSettings,
    RegionFeaturesSettings,
    RegionOverlapsSettings,
    SegmentEvaluateSettings,
    SvrSettings,
    check_paste,
    check_svr,
)
from .settings import Settings
from .svm.settings import SvmSettings
from .svm.settings import check as check_svm
from .units.settings import ScoredLayerSettings, UnitsSettings

ROOT = "rcnn"  # the detector of the project's own dvc.yaml and params.yaml
DATASET = "artifacts/datasets/${dataset}"
CURRENT_DATASET = "artifacts/manifest/manifest.json"  # of a run: its images and classes
_PROPOSALS = "artifacts/proposals/manifest.json"
OWN_PROPOSALS = "proposals"  # the project's, where a parameter of group regions may name another detector's
SAVED = "detections"  # detections put aside, or brought from other programs: the user's, not a stage's
SAVED_RUNS = "classification/saved"  # and runs of classification
CHARACTERISTICS = "analysis/characteristics"  # and tables of what objects are like


def _weights(node: str) -> str:
    """Return the path of a node's network."""
    return f"${{artifacts}}/{node}/weights.safetensors"


def _list(node: str) -> str:
    """Return the path of a node's list of objects."""
    return f"${{artifacts}}/{node}/manifest.json"


SCENES = Stage(
    name="scenes",
    version=3,
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
    outputs={"manifest": CURRENT_DATASET},
)
PROPOSALS = Stage(
    name="proposals",
    version=1,
    run="stages.proposals.stage:run",
    settings={"proposals": ProposalsSettings},
    seeded=True,
    inputs={"manifest": CURRENT_DATASET},
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
    inputs={"manifest": CURRENT_DATASET, "proposals": _PROPOSALS, "weights": _weights("pretrain")},
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
    version=2,
    run="stages.features.stage:run",
    settings={"features": FeaturesSettings},
    reads={"network": NetworkSettings},
    inputs={"manifest": CURRENT_DATASET, "proposals": _PROPOSALS, "weights": _weights("finetune")},
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
        "manifest": CURRENT_DATASET,
        "features": _list("features"),
        "weights": _weights("finetune"),
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
    inputs={"manifest": CURRENT_DATASET, "features": _list("features")},
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
        "manifest": CURRENT_DATASET,
        "features": _list("features"),
        "svm": "${artifacts}/svm/model.h5",
        "bbox": "${artifacts}/bbox/model.h5",
    },
    outputs={"manifest": "${node}/manifest.json"},
)


def _shared_training(
    name: str, settings: Mapping[str, type[Settings]], reads: Mapping[str, type[Settings]], **inputs: str
) -> Stage:
    """Declare a training of a network that is shared: from pixels, or from maps where they are among ``inputs``."""
    return Stage(
        name=name,
        version=1,
        run=f"stages.faster.training_stage:{name}",
        settings=settings,
        reads={"maps": ImageSettings, **reads},
        seeded=True,
        inputs={"manifest": CURRENT_DATASET, "weights": _weights("pretrain"), **inputs},
        outputs={
            "weights": "${node}/weights.safetensors",
            "curve": "${node}/curve.csv",
            "trained": "${node}/trained.json",
        },
        optional=frozenset({"maps"} & inputs.keys()),
        trained=("weights", "curve"),
        on_device=True,
        plots=("curve",),
        check=check_shared,
    )


RPN = _shared_training("rpn", {"rpn": RpnSettings}, {}, maps=_list("maps"))
FAST = _shared_training("fast", {"fast": FastSettings}, {}, proposals=_PROPOSALS, maps=_list("maps"))
JOINT = _shared_training(
    "joint",
    {"rpn": AnchorSettings, "fast": JointRoiSettings, "joint": JointSettings},
    {"propose": SuppressionSettings},
)
PROPOSE = Stage(
    name="propose",
    version=1,
    run="stages.faster.propose_stage:run",
    settings={"propose": ProposeSettings},
    reads={"rpn": RpnShapeSettings, "maps": MapsSettings, "network": ArithmeticSettings},
    seeded=True,
    inputs={"manifest": CURRENT_DATASET, "weights": _weights("joint"), "maps": _list("maps")},
    outputs={"manifest": "${node}/manifest.json"},
    optional=frozenset({"maps"}),
)
MAPS = Stage(
    name="maps",
    version=1,
    run="stages.faster.maps_stage:run",
    settings={"maps": MapsSettings},
    reads={"rpn": RpnMirror, "fast": FastMirror, "network": ArithmeticSettings},
    inputs={"manifest": CURRENT_DATASET, "weights": _weights("fast_1")},
    outputs={"manifest": "${node}/manifest.json"},
    check=check_maps,
)
ROI_DETECT = Stage(
    name="roi_detect",
    version=1,
    run="stages.faster.roi_detect_stage:run",
    settings={"roi_detect": RoiDetectSettings, "maps": MapsSettings},
    reads={"network": ArithmeticSettings},
    inputs={"manifest": CURRENT_DATASET, "proposals": _PROPOSALS, "weights": _weights("fast"), "maps": _list("maps")},
    outputs={"manifest": "${node}/manifest.json"},
    optional=frozenset({"maps"}),
)
DENSE_MAPS = Stage(
    name="dense_maps",
    version=1,
    run="stages.overfeat.dense_maps_stage:run",
    settings={"maps": DenseMapsSettings},
    reads={"finetune_dense": DenseMirror, "regress": RegressMirror, "network": ArithmeticSettings},
    inputs={"manifest": CURRENT_DATASET, "weights": _weights("pretrain")},
    outputs={"manifest": "${node}/manifest.json"},
    check=check_windows,
)


def _dense_training(name: str, settings: Mapping[str, type[Settings]], reads: Mapping[str, type[Settings]]) -> Stage:
    """Declare a training on windows of stored maps, behind the convolutions that made them."""
    return Stage(
        name=name,
        version=1,
        run=f"stages.overfeat.{name}_stage:run",
        settings=settings,
        reads=reads,
        seeded=True,
        inputs={"manifest": CURRENT_DATASET, "weights": _weights("pretrain"), "maps": _list("maps")},
        outputs={
            "weights": "${node}/weights.safetensors",
            "curve": "${node}/curve.csv",
            "trained": "${node}/trained.json",
        },
        trained=("weights", "curve"),
        on_device=True,
        plots=("curve",),
    )


FINETUNE_DENSE = _dense_training("finetune_dense", {"finetune_dense": FinetuneDenseSettings}, {})
REGRESS = _dense_training("regress", {"regress": RegressSettings}, {"finetune_dense": HeldOutSettings})
SLIDE = Stage(
    name="slide",
    version=1,
    run="stages.overfeat.slide_stage:run",
    settings={"slide": SlideSettings},
    reads={"finetune_dense": HeldOutSettings, "merge": TopSettings, "network": ArithmeticSettings},
    seeded=True,
    inputs={
        "manifest": CURRENT_DATASET,
        "maps": _list("maps"),
        "weights": _weights("finetune_dense"),
        "regressor": _weights("regress"),
    },
    outputs={"manifest": "${node}/manifest.json"},
)
MERGE = Stage(
    name="merge",
    version=1,
    run="stages.overfeat.merge_stage:run",
    settings={"merge": MergeSettings},
    check=check_t,
    inputs={"manifest": CURRENT_DATASET, "slide": _list("slide")},
    outputs={"manifest": "${node}/manifest.json"},
)
LOCALISATION = Stage(
    name="localisation",
    version=2,
    run="stages.overfeat.localisation_stage:run",
    settings={"localisation": LocalisationSettings},
    reads={"merge": MergeSettings},
    inputs={"manifest": CURRENT_DATASET, "slide": _list("slide"), "merge": _list("merge")},
    outputs={"report": "${reports}/localisation.json"},
    metrics=("report",),
)
COMBINE = Stage(
    name="combine",
    version=2,
    run="stages.detections.combine_stage:run",
    settings={"combine": CombineSettings},
    inputs={"manifest": CURRENT_DATASET, "detect": _list("detect"), "saved": SAVED},
    outputs={"manifest": "${node}/manifest.json"},
    optional=frozenset({"detect"}),
)
EVALUATE = Stage(
    name="evaluate",
    version=1,
    run="stages.evaluate.stage:run",
    settings={"evaluate": EvaluateSettings},
    seeded=True,
    inputs={"manifest": CURRENT_DATASET, "proposals": _PROPOSALS, "detections": _list("combine")},
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
# Nodes that train a network that is shared; the report shows their curves in this order.
_SHARED_TRAININGS = ("rpn_1", "fast_1", "rpn_2", "fast_2", "fast", "joint")
_DENSE_TRAININGS = ("finetune_dense", "regress")  # and of OverFeat's
REPORT = Stage(
    name="report",
    version=1,
    run="stages.report.stage:run",
    settings={"report": ReportSettings},
    reads_all=True,
    inputs={
        "manifest": CURRENT_DATASET,
        "proposals": _PROPOSALS,
        "features": _list("features"),
        "detections": _list("combine"),
        "svm": "${artifacts}/svm/model.h5",
        "bbox": "${artifacts}/bbox/model.h5",
        "pretrain": "${artifacts}/pretrain/curve.csv",
        "finetune": "${artifacts}/finetune/curve.csv",
        "mining": "${artifacts}/svm/mining.csv",
        **{node: f"${{artifacts}}/{node}/curve.csv" for node in (*_SHARED_TRAININGS, *_DENSE_TRAININGS)},
        "slide": _list("slide"),
        "merge": _list("merge"),
        "localisation": "${reports}/localisation.json",
        "scores": "${reports}/scores.json",
        "pr": "${reports}/plots/pr.csv",
        "recall_iou": "${reports}/plots/recall_iou.csv",
        "errors": "${reports}/plots/errors.csv",
        "examples": "${reports}/examples.json",
        "operating_points": "${reports}/operating_points.json",
    },
    outputs={"html": "${reports}/index.html"},
    optional=frozenset(
        {"features", "svm", "bbox", "pretrain", "finetune", "mining", *_SHARED_TRAININGS, *_DENSE_TRAININGS}
        | {"slide", "merge", "localisation"}
    ),
)
CLASSIFY = Stage(
    name="classify",
    version=1,
    run="stages.classification.classify_stage:run",
    settings={"classify": ClassifySettings},
    reads={"network": ArithmeticSettings},
    inputs={"manifest": CURRENT_DATASET, "weights": _weights("pretrain"), "saved": SAVED_RUNS},
    outputs={
        "manifest": "${node}/manifest.json",
        "dense": "${node}/dense",
        "report": "${reports}/classification.json",
    },
    metrics=("report",),
    check=check_dense,
)
CLASSIFY_SVM = Stage(
    name="classify_svm",
    version=1,
    run="stages.classification.classify_svm_stage:run",
    settings={"classify_svm": ClassifySvmSettings},
    reads={"network": ArithmeticSettings},
    seeded=True,
    inputs={"manifest": CURRENT_DATASET, "weights": _weights("pretrain")},
    outputs={"manifest": "${node}/manifest.json", "report": "${reports}/classification_svm.json"},
    metrics=("report",),
)
REGION_OVERLAPS = Stage(
    name="region_overlaps",
    version=1,
    run="stages.segmentation.region_overlaps_stage:run",
    settings={"region_overlaps": RegionOverlapsSettings},
    reads={"region_features": RegionFeaturesSettings, "features": BoxFeaturesSettings},
    inputs={"manifest": CURRENT_DATASET, "proposals": _PROPOSALS},
    outputs={"manifest": "${node}/manifest.json"},
)
REGION_FEATURES = Stage(
    name="region_features",
    version=1,
    run="stages.segmentation.region_features_stage:run",
    settings={"region_features": RegionFeaturesSettings},
    reads={"region_overlaps": RegionOverlapsSettings, "features": RegionSettings, "network": NetworkSettings},
    inputs={
        "manifest": CURRENT_DATASET,
        "proposals": _PROPOSALS,
        "weights": _weights("finetune"),
        "features": _list("features"),
    },
    outputs={"manifest": "${node}/manifest.json", "mirrored": "${node}/mirrored.json"},
)
SVR = Stage(
    name="svr",
    version=1,
    run="stages.segmentation.svr_stage:run",
    settings={"svr": SvrSettings},
    reads={
        "region_overlaps": RegionOverlapsSettings,
        "region_features": RegionFeaturesSettings,
        "paste": FurtherRegressorSettings,
    },
    check=check_svr,
    seeded=True,
    inputs={
        "manifest": CURRENT_DATASET,
        "proposals": _PROPOSALS,
        "overlaps": _list("region_overlaps"),
        "features": _list("features"),
        "region_features": _list("region_features"),
        "mirrored": "${artifacts}/region_features/mirrored.json",
    },
    outputs={"model": "${node}/model.h5", "fits": "${node}/fits.csv", "trained": "${node}/trained.json"},
    trained=("model", "fits"),
)
PASTE = Stage(
    name="paste",
    version=1,
    run="stages.segmentation.paste_stage:run",
    settings={"paste": PasteSettings},
    reads={"region_features": RegionFeaturesSettings, "svr": HeldOutRegressorSettings},
    check=check_paste,
    seeded=True,
    inputs={
        "manifest": CURRENT_DATASET,
        "proposals": _PROPOSALS,
        "overlaps": _list("region_overlaps"),
        "features": _list("features"),
        "region_features": _list("region_features"),
        "model": "${artifacts}/svr/model.h5",
    },
    outputs={"manifest": "${node}/manifest.json", "maps": "${reports}/segmentation/maps"},
)
SEGMENT_EVALUATE = Stage(
    name="segment_evaluate",
    version=1,
    run="stages.segmentation.segment_evaluate_stage:run",
    settings={"segment_evaluate": SegmentEvaluateSettings},
    reads={
        "region_overlaps": RegionOverlapsSettings,
        "region_features": RegionFeaturesSettings,
        "svr": SvrSettings,
        "paste": PasteSettings,
    },
    seeded=True,
    inputs={
        "manifest": CURRENT_DATASET,
        "proposals": _PROPOSALS,
        "overlaps": _list("region_overlaps"),
        "paste": _list("paste"),
        "maps": "${reports}/segmentation/maps",
        "detections": _list("combine"),
        "operating_points": "${reports}/operating_points.json",
    },
    outputs={"report": "${reports}/segmentation.json", "html": "${reports}/segmentation/index.html"},
    metrics=("report",),
)

COMPARE = Stage(
    name="compare",
    version=2,
    run="stages.comparison.stage:run",
    settings={"compare": CompareSettings},
    reads={"evaluate": EvaluateSettings},
    seeded=True,
    inputs={"manifest": CURRENT_DATASET, "proposals": _PROPOSALS},  # and every detector's list of detections
    outputs={"html": "reports/comparison/index.html", "figures": "reports/comparison/comparison.json"},
)
DIAGNOSE = Stage(
    name="diagnose",
    version=1,
    run="stages.diagnosis.stage:run",
    settings={"diagnose": DiagnoseSettings},
    inputs={
        "manifest": CURRENT_DATASET,
        "registered": f"{DATASET}/manifest.json",
        "detections": _list("combine"),
        "characteristics": CHARACTERISTICS,
    },
    outputs={"html": "${reports}/analysis/diagnosis.html", "figures": "${reports}/analysis/diagnosis.json"},
)
UNITS = Stage(
    name="units",
    version=1,
    run="stages.units.stage:run",
    settings={"units": UnitsSettings},
    reads={"svm": ScoredLayerSettings},
    inputs={"manifest": CURRENT_DATASET, "features": _list("features"), "weights": _weights("finetune")},
    outputs={"html": "${reports}/analysis/units.html"},
)


@dataclass(frozen=True)
class Place:
    """A stage as a kind of detector has it.

    Attributes:
        name: the node's.
        lacks: the optional inputs that it has not there.
        reads: other paths of some of its inputs than the stage's own.
        regions: the parameter of group ``regions`` that says whose proposals it reads; "": no parameter does.
    """

    stage: Stage
    name: str
    lacks: frozenset[str] = frozenset()
    reads: Mapping[str, str] = field(default_factory=dict)
    regions: str = ""


def place(
    stage: Stage, name: str = "", *, lacks: frozenset[str] = frozenset(), regions: str = "", **reads: str
) -> Place:
    """Put a stage into a graph, under its own name unless another is given; ``reads`` are paths by input's name."""
    if not lacks <= stage.optional:
        raise TypeError(f"stage {stage.name} cannot do without {', '.join(sorted(lacks - stage.optional))}")
    if not reads.keys() <= stage.inputs.keys():
        raise TypeError(f"stage {stage.name} reads no {', '.join(sorted(reads.keys() - stage.inputs.keys()))}")
    return Place(stage, name or stage.name, lacks, reads, regions)


@dataclass(frozen=True)
class Kind:
    """A kind of detector.

    Attributes:
        places: its own nodes, in running order.
        detections: the node that lists its detections before any combining; None for a kind that only joins others.
        test_nodes: the nodes that a new image passes, in order.
        settings: groups of parameters that are no stage's: they say which files its nodes read.
    """

    name: str
    meaning: str
    places: tuple[Place, ...]
    detections: str | None
    test_nodes: tuple[str, ...]
    settings: Mapping[str, type[Settings]] = field(default_factory=dict)


HEAD = tuple(map(place, (SCENES, MANIFEST, PROPOSALS)))  # every detector's
CLASSIFICATION = tuple(map(place, (CLASSIFY, CLASSIFY_SVM)))  # classification/dvc.yaml
# segmentation/dvc.yaml
SEGMENTATION = tuple(map(place, (REGION_OVERLAPS, REGION_FEATURES, SVR, PASTE, SEGMENT_EVALUATE)))
COMPARISON = (place(COMPARE),)  # comparison/dvc.yaml
# analysis/dvc.yaml: of the root's detector; beside another: `rcnn -d NAME run STAGE`
ANALYSIS = (place(DIAGNOSE), place(UNITS))
_REGION_CURVES = frozenset({"pretrain", "finetune", "mining"})
_SHARED_CURVES = frozenset(_SHARED_TRAININGS)
_MODELS = frozenset({"features", "svm", "bbox"})
_DENSE = frozenset({*_DENSE_TRAININGS, "slide", "merge", "localisation"})
_BY_REGION = (
    *map(place, (PRETRAIN, FINETUNE, FEATURES, SVM, BBOX, DETECT, COMBINE, EVALUATE)),
    place(REPORT, lacks=_SHARED_CURVES | _DENSE),
)
_JOINED = (place(COMBINE, lacks=COMBINE.optional), place(EVALUATE), place(REPORT, lacks=REPORT.optional))


def _scored(proposals: str, *trained: str, regions: str = "") -> tuple[Place, ...]:
    """Place what follows ``roi_detect``: whose ``proposals`` recall is measured of (``regions``: the parameter that
    says so), whose curves are shown."""
    lacks = _MODELS | _DENSE | (_REGION_CURVES | _SHARED_CURVES) - {"pretrain", *trained}
    return (
        place(COMBINE, detect=_list("roi_detect")),
        place(EVALUATE, proposals=proposals, regions=regions),
        place(REPORT, lacks=lacks, proposals=proposals, regions=regions),
    )


_NO_MAPS = frozenset({"maps"})
_FAST = (
    place(PRETRAIN),
    place(FAST, lacks=_NO_MAPS, regions="train"),
    place(ROI_DETECT, lacks=_NO_MAPS, regions="test"),
    *_scored(_PROPOSALS, "fast", regions="test"),
)
_FASTER = (
    place(PRETRAIN),
    place(RPN, "rpn_1", lacks=_NO_MAPS),
    place(PROPOSE, "propose_1", lacks=_NO_MAPS, weights=_weights("rpn_1")),
    place(FAST, "fast_1", lacks=_NO_MAPS, proposals=_list("propose_1")),
    place(MAPS),
    place(RPN, "rpn_2", weights=_weights("fast_1")),
    place(PROPOSE, "propose_2", weights=_weights("rpn_2")),
    place(FAST, "fast_2", proposals=_list("propose_2"), weights=_weights("rpn_2")),
    place(ROI_DETECT, proposals=_list("propose_2"), weights=_weights("fast_2")),
    *_scored(_list("propose_2"), "rpn_1", "fast_1", "rpn_2", "fast_2"),
)
_JOINT = (
    place(PRETRAIN),
    place(JOINT),
    place(PROPOSE, lacks=_NO_MAPS),
    place(ROI_DETECT, lacks=_NO_MAPS, proposals=_list("propose"), weights=_weights("joint")),
    *_scored(_list("propose"), "joint"),
)
_OVERFEAT = (
    place(PRETRAIN),
    place(DENSE_MAPS, "maps"),
    *map(place, (FINETUNE_DENSE, REGRESS, SLIDE, MERGE, LOCALISATION)),
    place(COMBINE, detect=_list("merge")),
    place(EVALUATE, proposals=_list("slide")),
    place(REPORT, lacks=_MODELS | _SHARED_CURVES | _REGION_CURVES - {"pretrain"}, proposals=_list("slide")),
)
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
        "fast",
        "Fast R-CNN: regions pooled from a trained feature map, one network for classes and boxes",
        _FAST,
        detections="roi_detect",
        test_nodes=("proposals", "roi_detect"),
        settings={"regions": SourceSettings},
    ),
    Kind(
        "faster",
        "Faster R-CNN in four steps: proposals from a network that shares its feature map with Fast R-CNN",
        _FASTER,
        detections="roi_detect",
        test_nodes=("maps", "propose_2", "roi_detect"),
    ),
    Kind(
        "joint",
        "Faster R-CNN trained at once",
        _JOINT,
        detections="roi_detect",
        test_nodes=("propose", "roi_detect"),
    ),
    Kind(
        "overfeat",
        "OverFeat: a classifier and a box regressor at every window of an image at several scales, boxes merged",
        _OVERFEAT,
        detections="merge",
        test_nodes=("maps", "slide", "merge"),
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
_TASKS = (*CLASSIFICATION, *SEGMENTATION, *COMPARISON, *ANALYSIS)
_PLACES = (*HEAD, *(one for kind in _KINDS for one in kind.places), *_TASKS)
STAGES: Mapping[str, Stage] = MappingProxyType({one.stage.name: one.stage for one in _PLACES})


def analyses(kind: Kind) -> tuple[Place, ...]:
    """Return the analyses that a detector of this kind can have: units are looked at in regions' features."""
    stores_features = any(one.stage is FEATURES for one in kind.places)
    return tuple(one for one in ANALYSIS if stores_features or one.stage is not UNITS)


def proposals_of(source: str) -> str:
    """Return the path, below the project, of the proposals that a parameter of group ``regions`` names."""
    detector, _, node = source.partition("/")
    return f"artifacts/detectors/{detector}/{node}/manifest.json" if node else _PROPOSALS


def at(one: Place, detector: str = ROOT, regions: SourceSettings | None = None) -> Node:
    """Return the node with the paths that it has in this detector; ``regions``: whose proposals it reads, if it says.

    Without ``regions`` a node whose proposals these parameters choose has the project's.
    """
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

    inputs = {name: path for name, path in paths({**one.stage.inputs, **one.reads}) if name not in one.lacks}
    if one.regions and regions is not None:
        inputs["proposals"] = proposals_of(getattr(regions, one.regions))
    return Node(one.name, one.stage, inputs, dict(paths(one.stage.outputs)))


def root_nodes() -> Mapping[str, Node]:
    """Return the nodes of the root's detector and of what all detectors share, by name, in running order."""
    return MappingProxyType({one.name: at(one) for one in (*HEAD, *KINDS[ROOT].places, *CLASSIFICATION, *SEGMENTATION)})
