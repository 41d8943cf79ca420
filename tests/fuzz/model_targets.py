"""Proposal files, the SVM's and the regressor's files, the classification set."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hostile_files import hostile_hdf5, hostile_npz, npy, npy_claiming, npz
from targets import Target, tolerant

_SHA = "0" * 64
_CLASSES = ("cat", "dog")


def _proposals(suffix: str) -> Callable[[Path], Callable[[bytes], None]]:
    def prepare(root: Path) -> Callable[[bytes], None]:
        from manifests import ImageRecord
        from stages.proposals.file import read_proposal_file

        boxes = np.zeros((0, 4), np.float32)
        images = [ImageRecord(i, f"{i:06d}.jpg", 20, 10, _SHA, "train", boxes, np.zeros(0, np.int64)) for i in (1, 2)]
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
    from stages.pretrain.pictures import read_classification

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


def _svm_model(root: Path) -> Callable[[bytes], None]:
    from stages.svm.classifier import read_classifier

    return _model(root, read_classifier)


def _bbox_model(root: Path) -> Callable[[bytes], None]:
    from stages.bbox.regressor import read_box_regressor

    return _model(root, read_box_regressor)


def _model(root: Path, read_model: Callable[[Path], Any]) -> Callable[[bytes], None]:
    file = root / "model.h5"

    def read(data: bytes) -> None:
        file.write_bytes(data)
        read_model(file)

    return tolerant(read)


def _written(write: Callable[[Path, Any], None], *made: Any) -> list[bytes]:
    """The files that the package writes for these models."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.h5"
        out = []
        for model in made:
            write(file, model)
            out.append(file.read_bytes())
        return out


def _svm_seeds() -> list[bytes]:
    from stages.svm.classifier import Classifier, write_classifier

    weights, bias = np.ones((2, 3), np.float32), np.zeros(2, np.float32)
    svm = Classifier("svm", "fc7", _CLASSES, 0.5, weights, bias)
    softmax = Classifier("softmax", "fc7", _CLASSES, 1.0, weights, bias, weights[0], 0.5)
    return [*_written(write_classifier, svm, softmax), *hostile_hdf5({"weights": (2, 3), "bias": (2,)})]


def _bbox_seeds() -> list[bytes]:
    from stages.bbox.regressor import BoxRegressor, write_box_regressor

    model = BoxRegressor(True, "pool5", _CLASSES, 1.5, np.ones((2, 4, 4), np.float32), np.ones(2, bool), {"a": 1})
    return [*_written(write_box_regressor, model), *hostile_hdf5({"weights": (2, 4, 4), "trained": (2,)})]


_HDF5_TOKENS = (b"weights", b"boxes", b"OHDR", b"TREE", b"SNOD", b"HEAP", b"FRHP", b"\x89HDF\r\n\x1a\n")
_ZIP_TOKENS = (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY", b"'|O'", b"(999999999,)", b"<f4")

MODEL_TARGETS = (
    Target("proposals_hdf5", _proposals(".h5"), _proposal_hdf5_seeds, _HDF5_TOKENS),
    Target("proposals_npz", _proposals(".npz"), _proposal_npz_seeds, _ZIP_TOKENS),
    Target("classification_npz", _classification, _classification_seeds, _ZIP_TOKENS),
    Target("svm_model", _svm_model, _svm_seeds, _HDF5_TOKENS),
    Target("bbox_model", _bbox_model, _bbox_seeds, _HDF5_TOKENS),
)
