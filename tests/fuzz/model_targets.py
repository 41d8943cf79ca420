"""Proposal files, network weights, checkpoints, the SVM's and the regressor's files, the classification set."""

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mutations import Tree
from targets import Target, tolerant

_SHA = "0" * 64
_CLASSES = ("cat", "dog")


class _Trap:
    """Unpickling it fails loudly: no reader may come as far."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return exec, ("raise SystemExit('a pickle was run')",)


def hostile_hdf5(shapes: Mapping[str, tuple[int, ...]]) -> list[bytes]:
    """Files with arrays of these names that HDF5 can hold and no reader of ours may trust."""
    import h5py

    def file(fill: Callable[[Any, str, tuple[int, ...]], object]) -> bytes:
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as made:
            for name, shape in shapes.items():
                fill(made, name, shape)
        return buffer.getvalue()

    def virtual(made: Any, name: str, shape: tuple[int, ...]) -> None:
        layout = h5py.VirtualLayout(shape, "f4")
        layout[...] = h5py.VirtualSource("/etc/hostname", "x", shape)
        made.create_virtual_dataset(name, layout)

    def linked(link: Any) -> Callable[[Any, str, tuple[int, ...]], None]:
        return lambda made, name, shape: made.__setitem__(name, link)

    def huge(made: Any, name: str, shape: tuple[int, ...]) -> None:
        made.create_dataset(name, (10**9, *shape[1:]), "f4", chunks=(1, *shape[1:]), compression="gzip")

    external = [("/etc/hostname", 0, h5py.h5f.UNLIMITED)]
    return [
        file(virtual),
        file(linked(h5py.ExternalLink("/etc/hostname", "/x"))),
        file(linked(h5py.SoftLink("/"))),
        file(linked(h5py.SoftLink("/absent"))),
        file(huge),
        file(lambda made, name, shape: made.create_dataset(name, (10**7, *shape[1:]), "f4")),
        file(lambda made, name, shape: made.create_dataset(name, shape, "f4", external=external)),
        file(lambda made, name, shape: made.create_dataset(name, shape, h5py.vlen_dtype(np.int32))),
        file(lambda made, name, shape: made.create_dataset(name, shape, h5py.string_dtype())),
        file(lambda made, name, shape: made.create_dataset(name, shape, h5py.ref_dtype)),
        file(lambda made, name, shape: made.create_dataset(name, shape, [("a", "f4"), ("b", "S3")])),
        file(lambda made, name, shape: made.create_dataset(name, data=h5py.Empty("f4"))),
        file(lambda made, name, shape: made.create_group(name)),
        file(lambda made, name, shape: made.__setitem__(name, np.dtype("f4"))),
    ]


def npz(members: Mapping[str, bytes]) -> bytes:
    """A zip file of these members, compressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def npy(array: Any) -> bytes:
    """One array as a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def npy_claiming(shape: object, dtype: object = "<f4", values: bytes = b"") -> bytes:
    """A .npy file whose header claims any shape and dtype."""
    header = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape!r}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + values


def hostile_npz(names: Mapping[str, tuple[int, ...]]) -> list[bytes]:
    """npz files with members of these names: pickles, false shapes, bombs, names that lead elsewhere."""
    objects = npy(np.array([None, 1], object)).split(b"\n")[0] + b"\n" + pickle.dumps(_Trap())
    hostile = [npy_claiming((10**9, 4)), npy_claiming((10**18,) * 4), npy_claiming((-1, 4)), npy_claiming((2.5, 4))]
    hostile += [objects, npy_claiming((2, 4), "|O", pickle.dumps(_Trap())), npy_claiming((300_000_000, 4), "<f8")]
    hostile += [npy_claiming((400_000_000,), "|u1", bytes(1 << 22)), npy_claiming("(" * 3000), b"", b"\x93NUMPY\x09\0"]
    hostile += [npy_claiming((1, 4), [("a", "<f4")] * 3), npy_claiming((1, 4), "<U400000000")]
    files = [npz(dict.fromkeys((f"{name}.npy" for name in names), data)) for data in hostile]
    strange = ("../../x.npy", "/etc/hostname", "boxes/../../a.npy", "boxes/.npy", "boxes/a.npy/", "a\\b.npy")
    sound = npy(np.zeros((1, 4), np.float32))
    return [*files, *(npz({name: sound}) for name in strange)]


def _proposals(suffix: str) -> Callable[[Path], Callable[[bytes], None]]:
    def prepare(root: Path) -> Callable[[bytes], None]:
        from manifests import ImageRecord
        from stages.proposals.proposal_file import read_proposal_file

        boxes = np.zeros((0, 4), np.float32)
        images = [ImageRecord(i, f"{i:06d}.jpg", 20, 10, _SHA, "train", boxes, np.zeros(0)) for i in (1, 2)]
        file = root / f"boxes{suffix}"

        def read(data: bytes) -> None:
            file.write_bytes(data)
            read_proposal_file(file, images)

        return tolerant(read)

    return prepare


_ENTRIES = {"boxes/000001": (2, 4), "boxes/2": (1, 4), "scores/2": (1,)}


def _proposal_hdf5_seeds() -> list[bytes]:
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["boxes/000001"] = np.array([[0, 0, 5, 5], [1, 1, 20, 10]], np.float32)
        file["boxes/2"], file["scores/2"] = np.array([[0, 0, 2, 2]]), np.array([0.5])
    return [buffer.getvalue(), *hostile_hdf5(_ENTRIES)]


def _proposal_npz_seeds() -> list[bytes]:
    arrays = {
        f"{name}.npy": npy(np.tile(np.array([0, 0, 5, 5.0])[: shape[-1]], (*shape[:-1], 1)).reshape(shape))
        for name, shape in _ENTRIES.items()
    }
    return [npz(arrays), *hostile_npz(_ENTRIES)]


def _classification(root: Path) -> Callable[[bytes], None]:
    from stages.pretrain.classification import read_classification

    def read(data: bytes) -> None:
        (root / "classification.npz").write_bytes(data)
        read_classification(root / "classification.npz")

    return tolerant(read)


def _classification_seeds() -> list[bytes]:
    arrays = {"images": np.zeros((4, 3, 3, 3), np.uint8), "labels": np.array([0, 1, 0, 1])}
    arrays["train"] = np.array([True, True, False, False])
    valid = npz({f"{name}.npy": npy(array) for name, array in arrays.items()})
    shapes: dict[str, tuple[int, ...]] = {name: array.shape for name, array in arrays.items()}
    return [valid, *hostile_npz(shapes), npy(np.zeros(3)), npz({"images.npy": npy_claiming((4, 3, 3, 3), "|u1")})]


def _models(read_name: str) -> Callable[[Path], Callable[[bytes], None]]:
    def prepare(root: Path) -> Callable[[bytes], None]:
        from stages.common import models

        file = root / "model.h5"

        def read(data: bytes) -> None:
            file.write_bytes(data)
            getattr(models, read_name)(file)

        return tolerant(read)

    return prepare


def _written(write: str, *made: Any) -> list[bytes]:
    """The files that the package writes for these models."""
    import tempfile

    from stages.common import models

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.h5"
        out = []
        for model in made:
            getattr(models, write)(file, model)
            out.append(file.read_bytes())
        return out


def _svm_seeds() -> list[bytes]:
    from stages.common.models import Classifier

    weights, bias = np.ones((2, 3), np.float32), np.zeros(2, np.float32)
    svm = Classifier("svm", "fc7", _CLASSES, 0.5, weights, bias)
    softmax = Classifier("softmax", "fc7", _CLASSES, 1.0, weights, bias, weights[0], 0.5)
    return [*_written("write_classifier", svm, softmax), *hostile_hdf5({"weights": (2, 3), "bias": (2,)})]


def _bbox_seeds() -> list[bytes]:
    from stages.common.models import BoxRegressor

    model = BoxRegressor(True, "pool5", _CLASSES, 1.5, np.ones((2, 4, 4), np.float32), np.ones(2, bool), {"a": 1})
    return [*_written("write_box_regressor", model), *hostile_hdf5({"weights": (2, 4, 4), "trained": (2,)})]


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
    from stages.common.networks import NetworkSettings
    from stages.common.weights import initial_network, load_weights

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
    spec = {"side_px": 64, "color_order": "rgb", "value_range": 1.0, "mean": [0.5] * 3, "std": [0.25] * 3}
    inputs = [{}, {"side_px": 10**6}, {"side_px": -1}, {"mean": "abc"}, {"std": [0, 0, 0]}, {"value_range": 0}]
    metas = [meta | {"input": json.dumps(spec | change)} for change in inputs]
    metas += [metas[0] | change for change in ({"n_outputs": "-1"}, {"n_outputs": "9" * 30}, {"pool5_grid": "[1]"})]
    metas += [metas[0] | change for change in ({"pool5_grid": "1e9"}, {"architecture": "vgg16"}, {"input": "[" * 3000})]
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
    return [*files, *foreign, (2**63).to_bytes(8, "little"), b"\xff" * 8 + b"{}", pickle.dumps(_Trap())]


def _checkpoint_and_network(root: Path) -> tuple[Any, Any, Any]:
    from stages.common.checkpoint import Checkpoint
    from stages.common.solver import MomentumSGD, caffe_multipliers

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

    from stages.common.checkpoint import Progress

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


_HDF5_TOKENS = (b"weights", b"boxes", b"OHDR", b"TREE", b"SNOD", b"HEAP", b"FRHP", b"\x89HDF\r\n\x1a\n")
_ZIP_TOKENS = (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY", b"'|O'", b"(999999999,)", b"<f4")
_TENSOR_TOKENS = (b'"dtype"', b'"shape"', b'"data_offsets"', b'"F32"', b'"__metadata__"', b'"n_outputs"', b"999999999")

MODEL_TARGETS = (
    Target("proposals_hdf5", _proposals(".h5"), _proposal_hdf5_seeds, _HDF5_TOKENS),
    Target("proposals_npz", _proposals(".npz"), _proposal_npz_seeds, _ZIP_TOKENS),
    Target("classification_npz", _classification, _classification_seeds, _ZIP_TOKENS),
    Target("svm_model", _models("read_classifier"), _svm_seeds, _HDF5_TOKENS),
    Target("bbox_model", _models("read_box_regressor"), _bbox_seeds, _HDF5_TOKENS),
    Target("weights", _weights, _weights_seeds, _TENSOR_TOKENS, SAFETENSORS),
    Target("checkpoint", _checkpoint, _checkpoint_seeds, _TENSOR_TOKENS, SAFETENSORS),
)
