"""The SVM or regressor of one class by liblinear, the authors' solver, without its slow conversion of rows in Python.

liblinear stores a row as 16-byte (index, value) nodes. Its wrapper builds them row by row (5.5 s for 8,000 x 4,096);
here one buffer of nodes is filled from whole blocks of rows, zeros left out (features after a ReLU are mostly zero),
and the C function is called on it directly.
"""

import ctypes
import re
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from liblinear import liblinear as ll
from numba import njit
from numpy.typing import NDArray

from stages.kernels.float16 import as_float32
from stages.kernels.linear import linear

from .problem import Solution, SvmProblem
from .rows import Rows
from .tube import TubeProblem, TubeRows, TubeSolution

NODE = np.dtype([("index", np.int32), ("value", np.float64)], align=True)  # liblinear's feature_node
L2R_L1LOSS_SVC_DUAL = 3  # L2 regulariser, L1 ("hinge") loss, dual coordinate descent: the authors' -s 3
L2R_L2LOSS_SVR_DUAL = 12  # L2 regulariser, squared loss outside a tube, dual coordinate descent: O2P's -s 12

# liblinear draws from the C library's rand() and prints through one process-wide callback
_ONE_FIT_AT_A_TIME = threading.Lock()


def fit_liblinear(rows: Rows, problem: SvmProblem, tolerance: float, seed: int) -> Solution:
    """Fit one class as rcnn_train.m does (-s 3 -w1 2 -B 10, tolerance 0.1).

    The same rows in the same order with the same seed give the same bits: liblinear shuffles by the C library's
    ``rand``, seeded here before each fit. The liblinear of today stops after 300 iterations where the authors' 1.94
    stopped after 1,000; ``converged`` reports it.

    Args:
        rows: p positives and n negatives; ``rows.scale`` is applied in float32.
        problem: what is minimised.
        tolerance: liblinear's -e.
        seed: of the order in which rows are visited.

    Returns:
        w in float64, scores in float32.

    Raises:
        ValueError: no positive or no negative.
    """
    if not (len(rows.positives) and len(rows.slots)):
        raise ValueError("an SVM needs at least one positive and one negative row")
    blocks = [rows.positives, rows.negatives()]
    nodes, starts = _nodes(blocks, rows.scale, problem.bias_scale)
    labels = np.where(np.arange(len(starts)) < len(rows.positives), 1.0, -1.0)
    # liblinear multiplies -c by a label's weight: by 1, so that the costs are the problem's to the bit
    options = ["-s", str(L2R_L1LOSS_SVC_DUAL), "-c", "1", "-e", repr(tolerance), "-B", repr(problem.bias_scale)]
    options += ["-w1", repr(problem.positive_cost), "-w-1", repr(problem.negative_cost)]
    weights, printed = _train(nodes, starts, labels, rows.values.shape[1] + 1, options, problem.bias_scale, seed)
    w, b = weights[:-1], problem.bias_scale * float(weights[-1])
    scaled = (w.astype(np.float32) * np.float32(rows.scale))[None]
    iterations = re.search(r"#iter = (\d+)", printed)
    return Solution(
        w=w,
        b=b,
        scores=np.concatenate([linear(block, scaled)[:, 0] + np.float32(b) for block in blocks]),
        iterations=int(iterations[1]) if iterations else 0,
        stop=tolerance,
        converged="reaching max number" not in printed,
    )


def fit_liblinear_tube(rows: TubeRows, problem: TubeProblem, tolerance: float, seed: int) -> TubeSolution:
    """Fit one regressor as O2P does (-s 12 without a bias); a row that counts k times is given k times.

    Args:
        rows: at least one; their counts are whole numbers.
        problem: what is minimised.
        tolerance: liblinear's -e (O2P: 0.01).
        seed: of the order in which rows are visited.

    Raises:
        ValueError: no row.
    """
    if not len(rows.slots):
        raise ValueError("a regressor needs at least one row")
    nodes, starts = _nodes([rows.values[rows.slots]], rows.scale, None)
    times = rows.counts.astype(np.int64)
    options = ["-s", str(L2R_L2LOSS_SVR_DUAL), "-c", repr(problem.C), "-p", repr(problem.epsilon)]
    options += ["-e", repr(tolerance), "-B", "-1"]
    targets = np.repeat(rows.targets, times)
    w, printed = _train(nodes, np.repeat(starts, times), targets, rows.values.shape[1], options, -1.0, seed)
    scores = linear(rows.values[rows.slots], (w * rows.scale).astype(np.float32)[None])[:, 0]
    iterations = re.search(r"#iter = (\d+)", printed)
    return TubeSolution(
        w=w,
        scores=scores.astype(np.float64),
        multipliers=None,
        iterations=int(iterations[1]) if iterations else 0,
        gap=None,
        converged="reaching max number" not in printed,
    )


def node_count(features: NDArray[Any]) -> NDArray[np.int64]:
    """Count the nodes that liblinear needs for each row [k, d]: its non-zeros, the bias, an end mark. int64 [k]."""
    # by its bits, without the sign, a float16 is counted five times as fast; a negative zero counts as zero
    values = features.view(np.uint16) << 1 if features.dtype == np.float16 else features
    counts: NDArray[np.int64] = np.count_nonzero(values, axis=1).astype(np.int64) + 2
    return counts


def node_bytes(features: NDArray[Any]) -> NDArray[np.int64]:
    """Return the size of liblinear's copy of each row [k, d] in bytes, int64 [k]."""
    return node_count(features) * NODE.itemsize


def _nodes(
    blocks: Sequence[NDArray[Any]], feature_scale: float, bias: float | None
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Convert rows to liblinear's nodes (1-based indices); return them and the position at which each row starts.

    ``bias``: the value of a last feature that all rows have; None: there is none.
    """
    lengths = np.concatenate([node_count(block) for block in blocks]) - (bias is None)
    ends = np.cumsum(lengths)
    nodes = np.empty(int(ends[-1]), NODE)
    at = 0
    for block in blocks:
        for begin in range(0, len(block), 256):  # what is converted here is still in the CPU's cache there
            rows = as_float32(block[begin : begin + 256])
            at = _fill(rows, np.float32(feature_scale), bias or 0.0, nodes["index"], nodes["value"], at)
    return nodes, ends - lengths


@njit(cache=True, nogil=True)
def _fill(rows: Any, scale: Any, bias: float, index: Any, value: Any, at: int) -> int:
    """Write the nodes of some rows [k, d] from position ``at`` on, a ``bias`` last but for 0; return where they end."""
    n, d = rows.shape
    for i in range(n):
        for column in range(d):
            if rows[i, column] != 0:
                index[at] = column + 1
                value[at] = rows[i, column] * scale
                at += 1
        if bias != 0:
            index[at], value[at] = d + 1, bias
            at += 1
        index[at], value[at] = -1, 0.0
        at += 1
    return at


def _train(
    nodes: NDArray[Any],
    starts: NDArray[np.int64],
    labels: NDArray[np.float64],
    n_features: int,
    options: list[str],
    bias: float,
    seed: int,
) -> tuple[NDArray[np.float64], str]:
    """Call liblinear; return its weights, float64 [n_features], and what it printed."""
    pointers = (starts * NODE.itemsize + nodes.ctypes.data).astype(np.uint64)
    data = ll.problem.__new__(ll.problem)  # its __init__ is the conversion that this module replaces
    data.l, data.n, data.bias = len(labels), n_features, bias
    data.y = labels.ctypes.data_as(ctypes.POINTER(ctypes.c_double))
    data.x = ctypes.cast(pointers.ctypes.data, ctypes.POINTER(ctypes.POINTER(ll.feature_node)))
    printed: list[bytes] = []
    listener = ll.PRINT_STRING_FUN(printed.append)
    with _ONE_FIT_AT_A_TIME:
        parameter = ll.parameter(options)
        ll.liblinear.set_print_string_function(listener)
        try:
            if error := ll.liblinear.check_parameter(data, parameter):
                raise ValueError(f"liblinear: {error.decode()}")
            ctypes.CDLL(None).srand(ctypes.c_uint(seed))
            handle = ll.liblinear.train(data, parameter)
            weights = np.ctypeslib.as_array(handle.contents.w, (n_features,)).copy()
            ll.liblinear.free_and_destroy_model(ctypes.byref(handle))
        finally:
            ll.liblinear.set_print_string_function(ll.ctypes_print_null)
    return weights, b"".join(printed).decode()
