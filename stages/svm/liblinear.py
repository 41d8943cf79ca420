"""The L2-regularised hinge-loss linear SVM, solved by liblinear, fed without its slow Python conversion.

liblinear stores a row as 16-byte (index, value) nodes. Its wrapper builds them row by row (5.5 s for 8,000 x 4,096);
here one buffer of nodes is filled from whole blocks of rows, zeros left out (features after a ReLU are mostly zero),
and the C function is called on it directly.
"""

import ctypes
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from stages.kernels.float16 import as_float32

from .settings import SvmSettings

NODE = np.dtype([("index", np.int32), ("value", np.float64)], align=True)  # liblinear's feature_node
L2R_L1LOSS_SVC_DUAL = 3  # L2 regulariser, L1 ("hinge") loss, dual coordinate descent: the authors' -s 3

# liblinear draws from the C library's rand() and prints through one process-wide callback
_ONE_FIT_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class LinearFit:
    """``w`` float64 [d], ``b``: the score of a scaled row x is ``x @ w + b``, with ``b = bias * w_last``."""

    w: NDArray[np.float64]
    b: float
    iterations: int
    converged: bool


def fit(
    positives: Sequence[NDArray[Any]],
    negatives: Sequence[NDArray[Any]],
    feature_scale: float,
    settings: SvmSettings,
    seed: int,
) -> LinearFit:
    """Train one class on blocks of rows [k, d] (features as stored; ``feature_scale`` is applied in float32).

    Blocks may be empty, but there must be a positive and a negative row. The same rows in the same order with the
    same seed give the same bits: liblinear shuffles by the C library's ``rand``, seeded here before each fit.
    Follows rcnn_train.m (``-s 3 -w1 2 -B 10``, tolerance liblinear's default 0.1); the liblinear of today stops
    after 300 iterations where the authors' 1.94 stopped after 1,000, which ``converged`` reports.
    """
    blocks = [*positives, *negatives]
    n_positive = sum(len(p) for p in positives)
    nodes, starts = _nodes(blocks, feature_scale, settings.bias)
    labels = np.full(len(starts), -1.0)
    labels[:n_positive] = 1.0
    if not 0 < n_positive < len(labels):
        raise ValueError("an SVM needs at least one positive and one negative row")
    return _train(nodes, starts, labels, blocks[0].shape[1], settings, seed)


def node_count(features: NDArray[Any]) -> NDArray[np.int64]:
    """[k, d] -> int64 [k]: how many 16-byte nodes liblinear needs for each row (its non-zeros, bias, terminator)."""
    # by its bits, without the sign, a float16 is counted five times as fast; a negative zero counts as zero
    values = features.view(np.uint16) << 1 if features.dtype == np.float16 else features
    return np.count_nonzero(values, axis=1).astype(np.int64) + 2


def node_bytes(features: NDArray[Any]) -> NDArray[np.int64]:
    """[k, d] -> int64 [k]: bytes of liblinear's copy of each row."""
    return node_count(features) * NODE.itemsize


def _nodes(blocks: Sequence[NDArray[Any]], feature_scale: float, bias: float) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """All rows as liblinear nodes (1-based indices), and the position at which each row starts."""
    lengths = np.concatenate([node_count(block) for block in blocks])
    ends = np.cumsum(lengths)
    nodes = np.empty(int(ends[-1]), NODE)
    at = 0
    for block in blocks:
        for begin in range(0, len(block), 256):  # what is converted here is still in the CPU's cache there
            rows = as_float32(block[begin : begin + 256])
            at = _fill(rows, np.float32(feature_scale), bias, nodes["index"], nodes["value"], at)
    return nodes, ends - lengths


@njit(cache=True, nogil=True)
def _fill(rows: Any, scale: Any, bias: float, index: Any, value: Any, at: int) -> int:
    """Write the nodes of some rows [k, d] from position ``at`` on; returns the position after them."""
    n, d = rows.shape
    for i in range(n):
        for column in range(d):
            if rows[i, column] != 0:
                index[at] = column + 1
                value[at] = rows[i, column] * scale
                at += 1
        index[at], value[at] = d + 1, bias
        index[at + 1], value[at + 1] = -1, 0.0
        at += 2
    return at


def _train(
    nodes: NDArray[Any],
    starts: NDArray[np.int64],
    labels: NDArray[np.float64],
    n_features: int,
    settings: SvmSettings,
    seed: int,
) -> LinearFit:
    from liblinear import liblinear as ll

    pointers = (starts * NODE.itemsize + nodes.ctypes.data).astype(np.uint64)
    problem = ll.problem.__new__(ll.problem)  # its __init__ is the conversion that this module replaces
    problem.l, problem.n, problem.bias = len(labels), n_features + 1, settings.bias
    problem.y = labels.ctypes.data_as(ctypes.POINTER(ctypes.c_double))
    problem.x = ctypes.cast(pointers.ctypes.data, ctypes.POINTER(ctypes.POINTER(ll.feature_node)))
    printed: list[bytes] = []
    listener = ll.PRINT_STRING_FUN(printed.append)
    with _ONE_FIT_AT_A_TIME:
        parameter = ll.parameter(_options(settings))
        ll.liblinear.set_print_string_function(listener)
        try:
            if error := ll.liblinear.check_parameter(problem, parameter):
                raise ValueError(f"liblinear: {error.decode()}")
            ctypes.CDLL(None).srand(ctypes.c_uint(seed))
            handle = ll.liblinear.train(problem, parameter)
            weights = np.ctypeslib.as_array(handle.contents.w, (n_features + 1,)).copy()
            ll.liblinear.free_and_destroy_model(ctypes.byref(handle))
        finally:
            ll.liblinear.set_print_string_function(ll.ctypes_print_null)
    output = b"".join(printed).decode()
    iterations = re.search(r"#iter = (\d+)", output)
    return LinearFit(
        w=weights[:-1],
        b=settings.bias * float(weights[-1]),
        iterations=int(iterations[1]) if iterations else 0,
        converged="reaching max number" not in output,
    )


def _options(settings: SvmSettings) -> list[str]:
    return [
        *("-s", str(L2R_L1LOSS_SVC_DUAL), "-c", repr(settings.C), "-e", repr(settings.tolerance)),
        *("-w1", repr(settings.positive_weight), "-B", repr(settings.bias)),
    ]
