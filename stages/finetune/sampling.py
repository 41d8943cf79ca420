"""Which images are kept aside, and how mini-batches are drawn from the windows of the others (paper section 2.3).

R-CNN's authors draw each mini-batch for itself, with replacement, from all windows (Caffe's window_data_layer.cpp);
SPP-net's draw those of 500 mini-batches together, without replacement, from as many random images as hold ten times
that number (spp_finetune_voc.m; there so that few feature maps need to be read at a time).
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .windows import Windows

BLOCK = 500  # SPP-net's: mini-batches that are drawn together ...
SPARE = 10  # ... from images that hold more than so many times their windows

Rows = NDArray[np.int64]
Flips = NDArray[np.bool_]


def hold_out(shown: NDArray[np.bool_], fraction: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Choose the images that are not trained on: ``fraction`` of them, but at least one of each kind (ours).

    An image that alone shows a class, among those that are still trained on, is trained on: no class loses its last
    window; so fewer may be held out, or none. With a single image, or fraction 0, none is.

    Args:
        shown: bool [images, classes], which classes have a foreground window in which image.
        fraction: in [0, 1].
        rng: draws the order in which images are asked.

    Returns:
        bool [images].
    """
    n_images = len(shown)
    out = np.zeros(n_images, np.bool_)
    if not (fraction > 0 and n_images > 1):
        return out
    count = min(max(round(fraction * n_images), 1), n_images - 1)
    left = shown.sum(axis=0)  # images that show each class and are trained on
    for image in rng.permutation(n_images).tolist():
        if out.sum() == count:
            break
        if (left[shown[image]] > 1).all():
            out[image] = True
            left -= shown[image]
    return out


def draw_batch(windows: Windows, *, fg: int, bg: int, mirror: bool, rng: np.random.Generator) -> tuple[Rows, Flips]:
    """Draw the rows [bg + fg] of one mini-batch, background first, and which to mirror (bool, each with p = 0.5).

    Uniformly, with replacement, from all windows of the dataset. Where there is no background, no row of it is drawn;
    the caller makes sure that there is foreground.
    """
    kinds = ((windows.background, bg), (windows.foreground, fg))
    rows = np.concatenate([rng.choice(kind, n) for kind, n in kinds if len(kind)])
    flips = rng.random(len(rows)) < 0.5 if mirror else np.zeros(len(rows), bool)
    return rows, flips


def draw_block(
    windows: Windows, *, fg: int, bg: int, mirror: bool, rng: np.random.Generator
) -> list[tuple[Rows, Flips]]:
    """Draw ``BLOCK`` mini-batches as :func:`draw_batch` returns one, together and without replacement.

    Images are taken in random order until they hold more than ``SPARE`` times the foreground and the background windows
    asked for, or until none is left. With ``mirror`` each image is there twice, and so is each window: as it is and
    mirrored. Where the images have fewer windows of a kind than the block takes (the authors' program stops there), all
    come once before any comes again.
    """
    copies = 2 if mirror else 1
    n_images = int(windows.images.max(initial=-1)) + 1
    order = rng.permutation(copies * n_images)
    kinds = ((windows.background, bg), (windows.foreground, fg))
    chosen = np.zeros(copies * n_images, np.bool_)
    chosen[order[: max(_enough(windows.images[kind], order, n_images, SPARE * BLOCK * n) for kind, n in kinds)]] = True
    parts = []
    for kind, n in kinds:
        # an entry is a window, or len(windows) more: its mirror image
        entries = [kind[chosen[windows.images[kind] + k * n_images]] + k * len(windows) for k in range(copies)]
        parts.append(_without_replacement(np.concatenate(entries), BLOCK * n, rng).reshape(BLOCK, -1))
    drawn = np.concatenate(parts, axis=1)
    return [(entries % len(windows), entries >= len(windows)) for entries in drawn]


def _enough(images: NDArray[np.int64], order: NDArray[np.int64], n_images: int, wanted: int) -> int:
    """Return how many images, of those in ``order``, hold more than ``wanted`` windows; all where none do."""
    held = np.cumsum(np.bincount(images, minlength=n_images)[order % n_images])
    return min(int(np.searchsorted(held, wanted, side="right")) + 1, len(order))


def _without_replacement(entries: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw ``count`` entries: a part of a permutation, or several permutations one after another; none of none."""
    if not len(entries):
        return entries
    rounds = [rng.permutation(entries) for _ in range(-(-count // len(entries)))]
    return np.concatenate(rounds)[:count]


def draws_in_blocks(
    windows: Windows, *, fg: int, bg: int, mirror: bool, rng_of: Callable[[int], np.random.Generator]
) -> Callable[[int], tuple[Rows, Flips]]:
    """Return what draws mini-batch ``number`` of :func:`draw_block`'s; ``rng_of`` makes the generator of each block.

    May be called from several threads; the blocks of the last two are kept.
    """

    @lru_cache(maxsize=2)
    def block(number: int) -> list[tuple[Rows, Flips]]:
        return draw_block(windows, fg=fg, bg=bg, mirror=mirror, rng=rng_of(number))

    return lambda number: block(number // BLOCK)[number % BLOCK]


def draw_held_out(windows: Windows, *, count: int, fg_share: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw at most ``count`` rows without replacement, ``fg_share`` of them foreground.

    Sorted, so that one image's windows stay together. Where there are too few of a kind, all of them are taken.
    """
    n_fg = round(count * fg_share)
    kinds = ((windows.background, count - n_fg), (windows.foreground, n_fg))
    rows = [rng.choice(kind, min(n, len(kind)), replace=False) for kind, n in kinds]
    return np.sort(np.concatenate(rows))
