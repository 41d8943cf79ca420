"""The two model files: round trip, same bytes, plain h5py reads them, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from cache.errors import StageError
from stages.bbox.regressor import BoxRegressor, read_box_regressor, write_box_regressor
from stages.svm.classifier import Classifier, read_classifier, write_classifier

RNG = np.random.default_rng(0)
SVM = Classifier("svm", "fc7", ("cat", "dög"), 0.25, RNG.random((2, 5), np.float32), RNG.random(2, np.float32))
SOFTMAX = Classifier("softmax", "fc7", ("a", "b"), 1.0, SVM.weights, SVM.bias, RNG.random(5, np.float32), 0.125)
BBOX = BoxRegressor(
    True, "pool5", ("a", "b"), 2.5, RNG.random((2, 6, 4), np.float32), np.array([True, False]), {"a": {"pairs": 3}}
)


def test_arrays_in_other_files_are_not_followed(tmp_path: Path) -> None:
    write_classifier(tmp_path / "other.h5", SVM)
    for name, link in {"a": h5py.ExternalLink("other.h5", "/bias"), "b": h5py.SoftLink("/weights")}.items():
        write_classifier(tmp_path / f"{name}.h5", SVM)
        with h5py.File(tmp_path / f"{name}.h5", "r+") as file:
            del file["bias"]
            file["bias"] = link
        with pytest.raises(StageError, match="is a link, not an array"):
            read_classifier(tmp_path / f"{name}.h5")


def test_an_array_that_only_declares_its_size_takes_no_memory(tmp_path: Path) -> None:
    write_box_regressor(tmp_path / "a.h5", BBOX)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["weights"]
        file.create_dataset("weights", (2, 10**10, 4), "f4", chunks=(1, 1, 4))
    with pytest.raises(StageError, match="declares 320000000000 bytes where the file holds 0"):
        read_box_regressor(tmp_path / "a.h5")


@pytest.mark.parametrize("size", [0, 2**64 - 16, 5000])
def test_a_heap_that_hdf5_walks_through_for_ever_is_refused(tmp_path: Path, size: int) -> None:
    """The text attributes' heap: its free object without a size hangs the library in its own code."""
    write_classifier(tmp_path / "a.h5", SVM)
    data = bytearray((tmp_path / "a.h5").read_bytes())
    at = heap = data.index(b"GCOL")
    at += 16
    while data[at : at + 2] != b"\0\0":
        at += 16 + -(-int.from_bytes(data[at + 8 : at + 16], "little") // 8) * 8
    assert at < heap + 4096
    data[at + 8 : at + 16] = size.to_bytes(8, "little")
    (tmp_path / "a.h5").write_bytes(data)
    with pytest.raises(StageError, match="a heap's object has no size, or too large a one"):
        read_classifier(tmp_path / "a.h5")


def test_a_summary_is_a_mapping(tmp_path: Path) -> None:
    write_box_regressor(tmp_path / "a.h5", BBOX)
    for text in ("[]", "[" * 50_000):
        with h5py.File(tmp_path / "a.h5", "r+") as file:
            file.attrs["summary"] = text
        with pytest.raises(StageError, match="'summary' is no JSON mapping"):
            read_box_regressor(tmp_path / "a.h5")


@pytest.mark.parametrize("model", [SVM, SOFTMAX])
def test_classifier_round_trip(tmp_path: Path, model: Classifier) -> None:
    write_classifier(tmp_path / "a.h5", model)
    write_classifier(tmp_path / "b.h5", model)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    back = read_classifier(tmp_path / "a.h5")
    assert (back.kind, back.layer, back.classes, back.feature_scale) == (
        model.kind,
        model.layer,
        model.classes,
        model.feature_scale,
    )
    x = RNG.random((4, 5)).astype(np.float16)
    np.testing.assert_array_equal(back.scores(x), model.scores(x))


def test_box_regressor_round_trip(tmp_path: Path) -> None:
    write_box_regressor(tmp_path / "a.h5", BBOX)
    write_box_regressor(tmp_path / "b.h5", BBOX)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    back = read_box_regressor(tmp_path / "a.h5")
    np.testing.assert_array_equal(back.weights, BBOX.weights)
    np.testing.assert_array_equal(back.trained, BBOX.trained)
    assert (back.enabled, back.layer, back.classes, back.feature_scale) == (True, "pool5", ("a", "b"), 2.5)
    assert back.summary == {"a": {"pairs": 3}}


def test_plain_h5py_sees_the_contract(tmp_path: Path) -> None:
    write_classifier(tmp_path / "a.h5", SVM)
    with h5py.File(tmp_path / "a.h5") as file:
        assert set(file) == {"weights", "bias"}
        assert file["weights"].dtype == np.float32
        assert {"kind", "layer", "feature_scale", "classes"} <= set(file.attrs)


def _attr(name: str, value: object) -> Callable[[h5py.File], None]:
    return lambda file: file.attrs.__setitem__(name, value)


def _array(name: str, value: np.ndarray | None) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        if name in file:
            del file[name]
        if value is not None:
            file[name] = value

    return change


def refused(read: Callable[[Path], object], path: Path, change: Callable[[h5py.File], None], said: str) -> None:
    """Assert that reading the changed file says what is wrong, in one line that names it."""
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(StageError) as error:
        read(path)
    assert said in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)


BAD_CLASSIFIERS = [
    (_attr("kind", "forest"), "kind is 'forest'"),
    (_attr("format_version", 99), "newer version"),
    (_attr("model_type", "box_regressor"), "not a classifier"),
    (_attr("classes", '["only one"]'), "array 'weights' is float32 2x5, expected float32 1xany"),
    (_attr("classes", "cat"), "attribute 'classes'"),
    (_attr("feature_scale", np.nan), "attribute 'feature_scale'"),
    (_array("bias", None), "array 'bias' is missing"),
    (_array("weights", np.full((2, 5), np.nan, np.float32)), "not finite"),
    (_array("weights", np.zeros((2, 5))), "array 'weights' is float64"),
    (_array("extra", np.zeros(1)), "unknown arrays extra"),
    (_array("background_weights", np.zeros(5, np.float32)), "only a softmax has"),
]


@pytest.mark.parametrize(("change", "said"), BAD_CLASSIFIERS, ids=[s for _, s in BAD_CLASSIFIERS])
def test_bad_classifiers_are_refused(tmp_path: Path, change: Callable[[h5py.File], None], said: str) -> None:
    path = tmp_path / "model.h5"
    write_classifier(path, SVM)
    refused(read_classifier, path, change, said)


BAD_REGRESSORS = [
    (_attr("enabled", "yes"), "attribute 'enabled'"),
    (_attr("enabled", False), "disabled regressor has trained classes"),
    (_array("weights", np.zeros((2, 6, 3), np.float32)), "expected float32 2xanyx4"),
    (_array("trained", np.zeros(3, bool)), "array 'trained'"),
    (_attr("summary", "{"), "attribute 'summary'"),
]


@pytest.mark.parametrize(("change", "said"), BAD_REGRESSORS, ids=[s for _, s in BAD_REGRESSORS])
def test_bad_regressors_are_refused(tmp_path: Path, change: Callable[[h5py.File], None], said: str) -> None:
    path = tmp_path / "model.h5"
    write_box_regressor(path, BBOX)
    refused(read_box_regressor, path, change, said)


def test_absent_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no such file; run `dvc repro -s svm`"):
        read_classifier(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("weights")
    with pytest.raises(StageError, match="not a readable HDF5 file"):
        read_box_regressor(tmp_path / "text.h5")
