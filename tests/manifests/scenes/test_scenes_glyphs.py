"""Glyphs: disjoint sets, faithful shapes, distances that are distances."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits

from manifests.scenes import glyphs
from manifests.scenes.glyphs import BLOCKS, CLASSIFICATION_BLOCKS, PAD, SAMPLES, GlyphBank


@pytest.fixture(scope="module")
def bank() -> GlyphBank:
    return GlyphBank()


def test_no_test_glyph_is_a_training_glyph_even_as_a_copy(bank: GlyphBank) -> None:
    train, test = (bank.images[list(BLOCKS[split])].reshape(-1, 64) for split in ("train", "test"))
    assert len(train) + len(test) == len(load_digits().images)
    assert not set(map(bytes, train)) & set(map(bytes, test))


def test_classification_parts_are_disjoint_and_within_the_training_block() -> None:
    train, val = (set(CLASSIFICATION_BLOCKS[name]) for name in ("train", "val"))
    assert train and val
    assert not train & val
    assert train | val <= set(BLOCKS["train"])


@pytest.mark.parametrize("block", [*BLOCKS.values(), *CLASSIFICATION_BLOCKS.values()])
def test_every_class_is_in_every_block_about_equally_often(bank: GlyphBank, block: range) -> None:
    counts = np.bincount(bank.labels[block.start : block.stop], minlength=10)
    assert counts.min() > 0.85 * counts.mean()
    assert counts.max() < 1.2 * counts.mean()


@pytest.mark.parametrize("name", list(BLOCKS))
def test_drawn_glyphs_come_from_the_block_and_have_the_class(bank: GlyphBank, name: str) -> None:
    rng, targets = np.random.default_rng(0), load_digits().target
    for label in range(10):
        for _ in range(4):
            glyph = bank.draw(rng, BLOCKS[name], label)
            assert glyph.index in BLOCKS[name]
            assert glyph.label == label == targets[glyph.index]


@pytest.mark.parametrize("index", [0, 8, 31, 700, 1796])
def test_field_is_the_distance_to_its_own_edge(bank: GlyphBank, index: int) -> None:
    """Against brute force: the distance to the nearest sample on the other side, less half a sample."""
    field = bank[index].field
    ink = field > 0
    points = np.argwhere(np.ones_like(ink))
    chosen = np.random.default_rng(index).choice(len(points), 200, replace=False)
    inside, outside = np.argwhere(ink), np.argwhere(~ink)
    for r, c in points[chosen]:
        other = outside if ink[r, c] else inside
        expected = (cdist([[r, c]], other).min() - 0.5) / SAMPLES
        assert abs(field[r, c]) == pytest.approx(expected, abs=1e-5)


def test_shape_scaled_down_again_looks_like_the_glyph(bank: GlyphBank) -> None:
    """The smooth shape is the digit somebody wrote: averaged over 8 x 8 cells it correlates with the original."""
    similar = []
    for index in range(0, 1797, 30):
        ink = bank[index].field[PAD * SAMPLES : -PAD * SAMPLES, PAD * SAMPLES : -PAD * SAMPLES] > 0
        small = np.asarray(Image.fromarray(ink.astype(np.uint8) * 255).resize((8, 8), Image.Resampling.BOX))
        similar.append(np.corrcoef(small.ravel(), bank.images[index].ravel())[0, 1])
    assert np.mean(similar) > 0.9
    assert min(similar) > 0.75


def test_extent_of_the_ink_is_the_field_s(bank: GlyphBank) -> None:
    glyph = bank[5]
    rows, cols = np.nonzero(glyph.field > 0)
    assert 2 * glyph.half[0] * SAMPLES == pytest.approx(np.ptp(cols) + 1)
    assert 2 * glyph.half[1] * SAMPLES == pytest.approx(np.ptp(rows) + 1)
    assert (glyph.origin[0] - glyph.half[0]) * SAMPLES == pytest.approx(cols.min())
    assert (glyph.origin[1] + glyph.half[1]) * SAMPLES == pytest.approx(rows.max() + 1)


def test_distances_at_sample_centres_are_the_field(bank: GlyphBank) -> None:
    glyph = bank[100]
    v, u = np.meshgrid(*((np.arange(n) + 0.5) / SAMPLES for n in glyph.field.shape), indexing="ij")
    np.testing.assert_allclose(glyph.distances(u - glyph.origin[0], v - glyph.origin[1]), glyph.field, atol=1e-5)


def test_loops_survive_where_the_writer_drew_them(bank: GlyphBank, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly every 6 and 9 has one hole; and more eights have two than if every glyph were cut at one level."""

    def with_holes(bank: GlyphBank, label: int, holes: int) -> float:
        indices = np.flatnonzero(bank.labels == label)[::2]
        return float(np.mean([ndimage.label(bank[int(i)].field < 0)[1] - 1 == holes for i in indices]))

    assert with_holes(bank, 6, 1) > 0.85
    assert with_holes(bank, 9, 1) > 0.8
    assert with_holes(bank, 1, 0) > 0.95
    adapted = with_holes(bank, 8, 2)
    monkeypatch.setattr(glyphs, "LEVELS", glyphs.LEVELS[:1])
    assert adapted > with_holes(GlyphBank(), 8, 2) + 0.04
