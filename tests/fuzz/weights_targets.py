"""Network weights and checkpoints: safetensors, whose header is JSON."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile_files import Trap
from mutations import Tree
from targets import Target, tolerant


def _header(data: bytes) -> Any:
    """A safetensors file as a tree: its header, and its tensors' bytes as Latin-1 text."""
    end = 8 + int.from_bytes(data[:8], "little")
    return {"header": json.loads(data[8:end]), "values": data[end:].decode("latin-1")}


def _with_header(tree: Any) -> bytes:
    text = json.dumps(tree["header"]).encode()
    return len(text).to_bytes(8, "little") + text + str(tree["values"]).encode("latin-1", "replace")


SAFETENSORS = Tree(_header, _with_header)


def _tiny_network() -> Any:
    from torch import nn

    return nn.Linear(2, 2)


def _weights(root: Path) -> Callable[[bytes], None]:
    from stages.networks.initial import initial_network
    from stages.networks.settings import NetworkSettings
    from stages.networks.weights import load_weights

    file = root / "weights.safetensors"
    settings = NetworkSettings(name="small", weights=file.name)

    def run(data: bytes) -> None:
        file.write_bytes(data)
        tolerant(lambda _: load_weights(file))(b"")
        tolerant(lambda _: initial_network(settings, root))(b"")

    return run


def _weights_seeds() -> list[bytes]:
    """Headers as this package writes them, with the tensors' values left out: what is checked comes before them."""
    meta = {"format": "rcnn-weights-1", "architecture": "small", "n_outputs": "3", "pool5_grid": "null"}
    spec: dict[str, Any] = {"side_px": 64, "color_order": "rgb", "value_range": 1.0, "mean": [0.5] * 3}
    spec["std"] = [0.25] * 3
    wrong: tuple[tuple[str, Any], ...] = (("side_px", 10**6), ("side_px", -1), ("mean", "abc"), ("std", [0, 0, 0]))
    inputs: list[dict[str, Any]] = [{}, *({name: value} for name, value in wrong), {"value_range": 0}]
    metas = [meta | {"input": json.dumps(spec | change)} for change in inputs]
    metas += [metas[0] | change for change in ({"n_outputs": "-1"}, {"n_outputs": "9" * 30}, {"pool5_grid": "[1]"})]
    metas += [metas[0] | change for change in ({"pool5_grid": "1e9"}, {"architecture": "vgg16"}, {"input": "[" * 3000})]
    metas += [metas[0] | {"pyramid": levels} for levels in ("[2, 1]", "[1e9]", "[9]" * 9, "0", "[" * 3000)]
    bias = {"classifier.6.bias": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}}
    tensors: list[dict[str, Any]] = [bias, {"classifier.6.bias": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}}]
    tensors += [
        {"classifier.6.bias": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}},
        bias | {"b": bias["classifier.6.bias"]},
    ]
    files = [_with_header({"header": bias | {"__metadata__": m}, "values": "\0" * 12}) for m in metas]
    files += [_with_header({"header": t | {"__metadata__": metas[0]}, "values": "\0" * 12}) for t in tensors]
    foreign = [
        _with_header({"header": t, "values": "\0" * (4 if not t["classifier.6.bias"]["shape"] else 12)})
        for t in tensors
    ]
    return [*files, *foreign, (2**63).to_bytes(8, "little"), b"\xff" * 8 + b"{}", pickle.dumps(Trap())]


def _checkpoint_and_network(root: Path) -> tuple[Any, Any, Any]:
    from stages.training.checkpoint import Checkpoint
    from stages.training.solver import MomentumSGD, caffe_multipliers

    network = _tiny_network()
    solver = MomentumSGD(network, caffe_multipliers(network), momentum=0.9, weight_decay=0.0)
    return Checkpoint(root, {"seed": 1}), network, solver


def _checkpoint(root: Path) -> Callable[[bytes], None]:
    checkpoint, network, solver = _checkpoint_and_network(root)

    def read(data: bytes) -> None:
        checkpoint.path.write_bytes(data)
        progress = checkpoint.restore(network, solver)
        checkpoint.save(network, solver, progress)
        assert progress.iteration + len(progress.rows) + progress.loss_sum + progress.loss_count is not None

    return tolerant(read)


def _checkpoint_seeds() -> list[bytes]:
    import tempfile

    from stages.training.curve import Progress

    with tempfile.TemporaryDirectory() as folder:
        checkpoint, network, solver = _checkpoint_and_network(Path(folder))
        checkpoint.save(network, solver, Progress(3, ({"loss": 1.0},), 0.5, 2))
        valid = checkpoint.path.read_bytes()
    tree = _header(valid)
    states: tuple[object, ...] = ([], {}, {"iteration": "x", "rows": 3, "loss_sum": None, "loss_count": []}, None)
    hostile = []
    for state in states:
        meta = tree["header"]["__metadata__"] | {"progress": json.dumps(state)}
        hostile.append(_with_header(tree | {"header": tree["header"] | {"__metadata__": meta}}))
    return [valid, *hostile]


_TENSOR_TOKENS = (b'"dtype"', b'"shape"', b'"data_offsets"', b'"F32"', b'"__metadata__"', b'"n_outputs"', b"999999999")

WEIGHTS_TARGETS = (
    Target("weights", _weights, _weights_seeds, _TENSOR_TOKENS, SAFETENSORS),
    Target("checkpoint", _checkpoint, _checkpoint_seeds, _TENSOR_TOKENS, SAFETENSORS),
)
