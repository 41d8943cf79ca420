"""The values that ``rcnn params init --profile ilsvrc2013`` has beside the paper's for VOC (paper sections 4.1 to 4.4).

Training on val1 and 1,000 objects of each class of train, which is annotated in part; boxes regressed on val1; scores
on val2 by ILSVRC's rules. Where the paper is silent a value is the authors' code's (branch ilsvrc).
"""

from cache.errors import ParamsError
from manifests import Dataset

from .task import Choices, Task

PROFILE = "ilsvrc2013"
KINDS = frozenset({"rcnn", "sppnet"})  # that can train on images annotated in part
_TRAIN, _BESIDE, _TEST = "val1", "train", "val2"
_PER_CLASS = 1000  # objects of train: the paper's train_1k
_ITERATIONS = 50_000
_WIDTH_PX = 500
_MINED = 5000
_DETECTIONS = 30_000  # of a class, over all test images


def ilsvrc_splits(dataset: Dataset, train: str | None, test: str | None) -> tuple[tuple[str, ...], str]:
    """Return the splits to train and to test on; ParamsError where the dataset has no halves of val, or others are
    asked for."""
    for option, name in (("--train", train), ("--test", test)):
        if name is not None:
            raise ParamsError(f"{option} {name}: --profile {PROFILE} has its own splits; leave one of the two out")
    lacking = [name for name in (_TRAIN, _TEST) if name not in dataset.splits]
    if lacking:
        of = "val" if "val" in dataset.splits else "SPLIT"
        raise ParamsError(
            f"dataset {dataset.name}: has no split {' and '.join(lacking)}, which --profile {PROFILE} trains and tests "
            f"on; `rcnn dataset split {dataset.name} --halves {_TRAIN} {_TEST} --of {of}` makes them (docs/ilsvrc.md); "
            f"it has: {', '.join(dataset.splits)}"
        )
    beside = (_BESIDE,) if _BESIDE in dataset.splits else ()
    return (_TRAIN, *beside), _TEST


def choose_ilsvrc(choices: Choices, task: Task, *, is_root: bool) -> None:
    """Put ILSVRC's values in the place of VOC's."""
    if is_root:
        splits = [_TRAIN, _BESIDE] if any(f"train/{_BESIDE}" in one.splits for one in task.dataset.images) else _TRAIN
        choices.put("manifest.train", splits, "the paper's val1 + train_1k")
        choices.put("manifest.train_limit", _PER_CLASS, "the paper's, of train, which is annotated in part")
        choices.put("manifest.train_limit_of", "boxes", "the paper's; the authors' code: images")
        choices.put("proposals.resize_width_px", _WIDTH_PX, "the paper's, for ILSVRC")
        choices.reasons = [line for line in choices.reasons if not line.startswith("proposals:")]
        choices.say(f"proposals: searched at a width of {_WIDTH_PX} px, the paper's for ILSVRC")
        choices.say(
            f"ILSVRC2013: trained on {task.splits[0]}, of train at most {_PER_CLASS} objects of each class, which are "
            f"positives alone; boxes regressed on {_TRAIN}; negatives mined on {_MINED} of its images; ILSVRC's scores"
        )
    if task.preset == "paper":
        choices.put("finetune.iterations", _ITERATIONS, "the paper's, for ILSVRC")
        said, ours = "the paper's 70,000 iterations", f"the paper's {_ITERATIONS:,} iterations for ILSVRC"
        choices.reasons = [line.replace(said, ours) for line in choices.reasons]
    choices.put("svm.evict_below", -1.1, "the authors' code's, for ILSVRC")
    choices.put("svm.mine_images", _MINED, "the paper's, of val1")
    listed = any(one.splits != ("train",) for one in task.dataset.split("train"))
    choices.put("bbox.images", _TRAIN if listed else None, "the paper's, for ILSVRC")
    choices.put("detect.order", "suppress_then_cut", "the authors' code's, for ILSVRC")
    choices.put("detect.score_floor", -1.5, "the authors' code's, for ILSVRC")
    rank = max(1, round(_DETECTIONS / len(task.dataset.split("test"))))
    choices.put("detect.rank_factor", rank, f"the authors' code's, for ILSVRC: {_DETECTIONS} of a class in all")
    choices.put("evaluate.ilsvrc", True, "scores by ILSVRC's rules, too")
