"""Windows' labels against a slow version, what is drawn of them, which offend, and the loss."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from dense_images import CLASSES, images, pooled_rows, record, records, small
from plain_arrays import as_boxes
from torch import nn
from torch.nn import functional

from cache.errors import StageError
from manifests import ImageRecord
from stages.boxes.geometry import iou
from stages.overfeat.classifier import new_classifier
from stages.overfeat.finetune_dense_training import (
    WindowBatch,
    WindowLabels,
    most_offending,
    window_batches,
    window_terms,
)
from stages.overfeat.settings import FinetuneDenseSettings
from stages.training.images import ImageSide
from stages.training.loop import TrainingRun, torch_generator

RUN = TrainingRun("finetune_dense", 4, 2, 1000, 5, train_batch_norm=False)
PLAIN, MIRRORED = ImageSide(0, mirrored=False), ImageSide(0, mirrored=True)


def labels_of(*of: ImageRecord, **changes: Any) -> WindowLabels:
    settings = FinetuneDenseSettings(**changes)
    return WindowLabels(images(of or records(), difficult=settings.difficult), settings, len(CLASSES))


def by_hand(
    windows: np.ndarray, of: ImageRecord, fg: float, bg: float, *, difficult: bool, mirrored: bool
) -> list[int]:
    """One window after another, from the record's own annotations."""
    out = []
    for x1, y1, x2, y2 in windows.tolist():
        seen = [of.width - x2, y1, of.width - x1, y2] if mirrored else [x1, y1, x2, y2]
        best, label, covered = 0.0, 0, 0.0
        for k, box in enumerate(of.boxes):
            if of.crowd[k]:
                wide, high = (min(seen[2 + d], box[2 + d]) - max(seen[d], box[d]) for d in (0, 1))
                covered = max(covered, max(wide, 0) * max(high, 0) / ((x2 - x1) * (y2 - y1)))
            elif (overlap := float(iou(as_boxes([seen]), box[None])[0, 0])) > best:
                best = overlap
                label = int(of.labels[k]) + 1 if difficult or not of.difficult[k] else -1
        shown = label if best >= fg else 0 if best < bg else -1
        out.append(-1 if covered > 0.7 else shown)
    return out


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("difficult", [False, True])
@pytest.mark.parametrize(("fg", "bg"), [(0.5, 0.3), (0.6, 0.6), (0.3, 0.1)])
def test_labels_are_those_of_a_slow_version(mirrored: bool, difficult: bool, fg: float, bg: float) -> None:
    boxes = [[8, 6, 58, 60], [0, 40, 44, 80], [50, 0, 99, 50], [55, 30, 100, 80]]
    of = record(0, boxes, [0, 1, 1, 0], difficult=[0, 1, 0, 0], crowd=[0, 0, 1, 0])
    made = labels_of(of, fg_iou=fg, bg_iou=bg, difficult=difficult)
    side = ImageSide(0, mirrored)
    found = made.labels(side)
    wanted = by_hand(made.images.grid(side).boxes, of, fg, bg, difficult=difficult, mirrored=mirrored)
    assert found.tolist() == wanted
    assert {-1, 1} <= set(wanted) and (difficult == (2 in wanted)) and (bg == 0.1 or 0 in wanted)


def test_a_window_in_a_crowd_region_is_no_background() -> None:
    of = record(2, [[0, 0, 80, 80]], [0], crowd=[1])
    made = labels_of(of, record(0))
    assert set(made.labels(PLAIN).tolist()) == {-1}
    sides, _ = made.survey()
    assert {side.image for side in sides} == {1}  # nothing can be learned from the other


def test_an_image_without_objects_is_background() -> None:
    made = labels_of()
    assert set(made.labels(ImageSide(2, mirrored=False)).tolist()) == {0}
    sides, counts = made.survey()
    assert [(side.image, side.mirrored) for side in sides] == [(i, m) for m in (False, True) for i in range(3)]
    every = Counter(label for side in sides for label in made.labels(side).tolist())
    assert counts.tolist() == [every[0], every[1], every[2]] and min(counts) > 0


def test_no_window_on_an_object_is_told_with_a_scale_that_has_some() -> None:
    of = record(2, [[30, 30, 42, 42]], [0])
    with pytest.raises(
        StageError, match=r"finetune_dense: no window .* IoU of at least 0.5: objects are of 12 to 12"
    ) as told:
        labels_of(of).survey()
    assert "windows of 38 to 71 px" in str(told.value) and "such as 427," in str(told.value)  # 64 * 80 / 12
    assert str(told.value).endswith("or lower finetune_dense.fg_iou") and "\n" not in str(told.value)


def test_no_background_is_told() -> None:
    of = record(2, [[0, 0, 80, 80]], [0])
    with pytest.raises(
        StageError, match=r"^finetune_dense: no window .* is background: each has an IoU of at least 0.01"
    ):
        labels_of(of, fg_iou=0.2, bg_iou=0.01).survey()


def test_images_without_an_object_to_train_on_are_told() -> None:
    with pytest.raises(StageError, match="finetune_dense: no image of the train split shows an object"):
        labels_of(record(2)).survey()
    hard = record(0, [[8, 6, 58, 60]], [0], difficult=[1])
    with pytest.raises(StageError, match=r"set finetune_dense.difficult to true"):
        labels_of(hard).survey()
    assert labels_of(hard, difficult=True).survey()[1][1] > 0


@pytest.mark.parametrize(
    ("positives", "random", "offending", "pool"), [(8, 8, 8, 30), (3, 0, 5, 20), (2, 4, 0, 50), (1000, 1000, 8, 300)]
)
def test_each_kind_is_drawn_as_often_as_asked_or_as_there_is(
    positives: int, random: int, offending: int, pool: int
) -> None:
    made = labels_of(positives=positives, random_negatives=random, offending_negatives=offending, background_pool=pool)
    every = made.labels(PLAIN)
    shown, background = int((every > 0).sum()), int((every == 0).sum())
    assert 8 < shown < 1000 and 50 < background < 1000
    drawn = made.draw(PLAIN, np.random.default_rng(0))
    np.testing.assert_array_equal(drawn.labels, every[drawn.rows])
    assert (drawn.labels > 0).sum() == min(positives, shown)
    assert (drawn.labels == 0).sum() == min(random, background)
    assert len(drawn.pool) == (min(pool, max(background - random, 0)) if offending else 0)
    assert set(every[drawn.pool].tolist()) <= {0}
    together = np.concatenate([drawn.rows, drawn.pool])
    assert len(np.unique(together)) == len(together)  # none twice


def test_all_windows_are_drawn_in_time() -> None:
    made = labels_of(positives=5, random_negatives=20, offending_negatives=1, background_pool=20)
    seen: set[int] = set()
    for seed in range(100):
        drawn = made.draw(PLAIN, np.random.default_rng(seed))
        seen |= set(drawn.rows.tolist()) | set(drawn.pool.tolist())
    assert seen == set(np.flatnonzero(made.labels(PLAIN) >= 0).tolist())


class Scores(nn.Module):
    """Says of a row [n, 3] just what stands in it; in training mode nothing of use."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.99)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.drop(rows)
        return out


def test_the_offending_by_hand() -> None:
    """Probability of background .9, .2, .5 | .5, .1, .1, .3 | nothing | .8, of the others' whatever is left."""
    shares = [0.9, 0.2, 0.5, 0.5, 0.1, 0.1, 0.3, 0.8]
    pools = torch.tensor([[s, (1 - s) * 0.3, (1 - s) * 0.7] for s in shares]).log()
    model = Scores().train()
    for wanted, rows in ((1, [1, 4, 7]), (2, [1, 2, 4, 5, 7]), (9, [1, 2, 0, 4, 5, 6, 3, 7]), (0, [])):
        assert most_offending(model, pools, (3, 4, 0, 1), wanted).tolist() == rows
    assert model.training and model.drop.training  # as it was
    assert most_offending(model, pools[:0], (0, 0), 3).tolist() == []


def batch_of(network: Any, *, context: bool = False) -> WindowBatch:
    made = labels_of(positives=3, random_negatives=2, offending_negatives=2, background_pool=10)
    rows = pooled_rows(network, records(), context=context)
    return window_batches(made, rows, lambda _: (PLAIN, MIRRORED, ImageSide(2, False)), RUN)(7)


def test_a_batch_has_the_windows_of_its_images() -> None:
    network = small()
    batch, again = batch_of(network), batch_of(network)
    assert batch.labels.tolist()[3:5] == [0, 0] and (batch.labels > 0).sum() == 6
    assert (batch.inputs.shape, batch.pools.shape, batch.counts) == ((12, 1024), (30, 1024), (10, 10, 10))
    for name in ("inputs", "labels", "pools"):
        np.testing.assert_array_equal(getattr(batch, name), getattr(again, name))
    with_context = batch_of(network, context=True)
    assert with_context.inputs.shape == (12, 2048)
    np.testing.assert_array_equal(with_context.inputs[:, :1024], batch.inputs)


@pytest.mark.parametrize("offending", [0, 2])
def test_the_loss_is_the_cross_entropy_of_what_was_drawn_and_what_offends(offending: int) -> None:
    classifier = new_classifier(small(), CLASSES, torch_generator(0, "t", "t"), context=False)
    batch, model = batch_of(classifier.network), classifier.fc_module().eval()
    with torch.no_grad():
        (found,) = window_terms(offending, "float32")(model, batch).values()
        scores = model(torch.from_numpy(batch.pools)).softmax(1)[:, 0].tolist()
        rows, labels = [*torch.from_numpy(batch.inputs)], batch.labels.tolist()
        for image in range(3):
            own = sorted(range(10 * image, 10 * image + 10), key=scores.__getitem__)[:offending]
            rows += [torch.from_numpy(batch.pools[i]) for i in own]
            labels += [0] * len(own)
        logits = model(torch.stack(rows))
    torch.testing.assert_close(found, functional.cross_entropy(logits, torch.tensor(labels)), rtol=1e-5, atol=1e-6)


def test_what_offends_follows_the_weights() -> None:
    """After a step the same batch's worst windows are others: they are found anew, not once."""
    classifier = new_classifier(small(), CLASSES, torch_generator(0, "t", "t"), context=False)
    batch, model = batch_of(classifier.network), classifier.fc_module()
    pools = torch.from_numpy(batch.pools)
    before = most_offending(model, pools, batch.counts, 2).tolist()
    with torch.no_grad():
        for parameter in classifier.network.classifier_parameters():
            parameter.neg_()
    assert most_offending(model, pools, batch.counts, 2).tolist() != before


def test_bfloat16_gives_about_the_same_loss() -> None:
    classifier = new_classifier(small(), CLASSES, torch_generator(0, "t", "t"), context=False)
    batch, model = batch_of(classifier.network), classifier.fc_module().eval()
    with torch.no_grad():
        exact, rough = (window_terms(0, of)(model, batch)["cross_entropy"] for of in ("float32", "bfloat16"))
    assert exact != rough and rough.dtype == torch.float32
    torch.testing.assert_close(exact, rough, rtol=0.02, atol=0.02)
