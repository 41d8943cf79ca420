"""Weights before any fine-tuning: from files of this package and others, and from torchvision."""

import copy
import functools
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from network_parts import trunk_of
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors.torch import save_file

from cache.errors import StageError
from manifests import decode_image
from stages.features.warp import warp_regions
from stages.networks.initial import initial_network
from stages.networks.network import Network, build
from stages.networks.settings import InputSettings, NetworkSettings
from stages.networks.spec import InputSpec
from stages.networks.weights import save_weights

SHARED = Path(__file__).parents[3] / "../shared"


@pytest.fixture(scope="module")
def small() -> Network:
    return build("small", 7, generator=torch.Generator().manual_seed(0)).eval()


def squeezenet_tensors(n_outputs: int = 6) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    tensors: dict[str, torch.Tensor] = torchvision.models.squeezenet1_0(num_classes=n_outputs).state_dict()
    return tensors


def test_a_safetensors_file_with_its_input_convention(tmp_path: Path) -> None:
    tensors = squeezenet_tensors()
    save_file(tensors, tmp_path / "sq.safetensors")
    convention = InputSettings(color_order="bgr", value_range=255, mean=(104, 117, 123), side_px=227)
    settings = NetworkSettings(name="squeezenet1_0", weights="sq.safetensors", input=convention, pool5_grid=2)
    network = initial_network(settings, tmp_path)
    assert network.input == InputSpec(227, "bgr", 255.0, (104.0, 117.0, 123.0), (1.0, 1.0, 1.0))
    assert (network.n_outputs, network.pool5_grid, network.training) == (6, 2, False)
    for key, value in network.trunk.state_dict().items():
        assert torch.equal(value, tensors[key])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features.0.bias": None}, "features.0.bias is missing (expected 96)"),
        ({"features.0.weight": torch.zeros(96, 3, 5, 5)}, "features.0.weight is 96x3x5x5, expected 96x3x7x7"),
        ({"extra.weight": torch.zeros(2, 3)}, "extra.weight 2x3 is not in the network"),
        ({"features.0.bias": torch.zeros(96, dtype=torch.int64)}, "features.0.bias is torch.int64, not floats"),
        ({"classifier.1.bias": torch.zeros(())}, "classifier.1.bias is scalar, expected 1"),
        ({"classifier.1.bias": torch.zeros(0)}, "classifier.1.bias has 0 values, one per output"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, change: dict[str, torch.Tensor | None], message: str) -> None:
    tensors = {k: v for k, v in {**squeezenet_tensors(), **change}.items() if v is not None}
    save_file(tensors, tmp_path / "sq.safetensors")
    with pytest.raises(StageError) as caught:
        initial_network(NetworkSettings(name="squeezenet1_0", weights="sq.safetensors"), tmp_path)
    assert message in str(caught.value)
    assert "sq.safetensors" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_many_misfits_are_counted(small: Network, tmp_path: Path) -> None:
    save_file({"classifier.1.bias": torch.zeros(4)}, tmp_path / "w.safetensors")
    with pytest.raises(StageError, match="and 46 more"):
        initial_network(NetworkSettings(name="squeezenet1_0", weights="w.safetensors"), tmp_path)


def test_weights_of_another_network(small: Network, tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", small)
    with pytest.raises(StageError, match=r"weights of small, network.name is alexnet"):
        initial_network(NetworkSettings(name="alexnet", weights="w.safetensors"), tmp_path)
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(StageError, match=r"no tensor classifier.6.bias"):
        initial_network(NetworkSettings(name="alexnet", weights="x.safetensors"), tmp_path)


def test_a_side_that_the_network_cannot_take_is_an_error(small: Network, tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", small)
    settings = NetworkSettings(name="small", weights="w.safetensors", input=InputSettings(side_px=100))
    with pytest.raises(StageError, match=r"side_px: small cannot take crops of 100 px \(.*its own are 64 px") as caught:
        initial_network(settings, tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_an_input_convention_without_given_weights_is_not_ignored() -> None:
    with pytest.raises(ValidationError, match=r"with network\.weights: pretrain set it to null"):
        NetworkSettings(input=InputSettings())


def test_a_file_that_is_not_there_or_none_of_its_kind_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("weights")
    (tmp_path / "lfs.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    told = {"text": "not a readable safetensors file", "none": "no such weights file", "lfs": "run `git lfs pull`"}
    for name, message in told.items():
        with pytest.raises(StageError, match=message):
            initial_network(NetworkSettings(weights=f"{name}.safetensors"), tmp_path)


@pytest.fixture
def weights_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file server that has random SqueezeNet weights where torchvision looks for its own."""
    served, hub = tmp_path / "served", tmp_path / "hub"
    served.mkdir()
    torch.save(squeezenet_tensors(1000), served / "plain.pth")
    digest = hashlib.sha256((served / "plain.pth").read_bytes()).hexdigest()[:8]
    (served / "plain.pth").rename(served / f"squeezenet1_0-{digest}.pth")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(served)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("TORCH_HOME", str(hub))
    url = f"http://127.0.0.1:{server.server_port}/squeezenet1_0-{digest}.pth"
    weights = torchvision.models.SqueezeNet1_0_Weights.IMAGENET1K_V1
    entry = copy.copy(weights.value)
    object.__setattr__(entry, "url", url)
    monkeypatch.setattr(weights, "_value_", entry)
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_torchvision_weights_name_is_downloaded(weights_server: Path) -> None:
    settings = NetworkSettings(name="squeezenet1_0", weights="IMAGENET1K_V1")
    network = initial_network(settings, Path())
    expected = squeezenet_tensors(1000)
    assert torch.equal(trunk_of(network).features[0].weight, expected["features.0.weight"])
    assert network.input == InputSpec(224, "rgb", 1.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert network.pool5_grid == 3


def test_a_failed_or_damaged_download_is_one_line(weights_server: Path) -> None:
    settings = NetworkSettings(name="squeezenet1_0", weights="IMAGENET1K_V1")
    (file,) = weights_server.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(StageError, match=r"cannot download http.*invalid hash value"):
        initial_network(settings, Path())
    file.unlink()
    with pytest.raises(StageError, match=r"cannot download http.*404.*; where there is no network, .* into /") as error:
        initial_network(settings, Path())
    # what it says to do helps
    (Path(str(error.value).split(" put it into ")[1].split(", or give")[0]) / file.name).write_bytes(whole)
    assert initial_network(settings, Path()).name == "squeezenet1_0"


@pytest.mark.parametrize("name", ["w.pth", "folder/model.PT", "net.ckpt"])
def test_a_pickle_is_not_read(name: str) -> None:
    with pytest.raises(StageError, match=rf"network\.weights: {name} is a pickle.*safetensors"):
        initial_network(NetworkSettings(name="squeezenet1_0", weights=name), Path())


def test_an_unknown_weights_name() -> None:
    with pytest.raises(StageError, match=r"no 'IMAGENET' for squeezenet1_0; there are IMAGENET1K_V1"):
        initial_network(NetworkSettings(name="squeezenet1_0", weights="IMAGENET"), Path())
    with pytest.raises(StageError, match="torchvision has no network small"):
        initial_network(NetworkSettings(name="small", weights="IMAGENET1K_V1"), Path())


IMAGENET_LABELS = {
    "zebra": {340},
    "elephant": {101, 385, 386},
    "bear": {294, 295, 296, 297},
    "pizza": {963},
    "banana": {954},
    "laptop": {620, 681},
    "teddy bear": {850},
    "bus": {654, 779, 874},
    "airplane": {404, 895},
    "cat": set(range(281, 286)),
    "dog": set(range(151, 269)),
}


def large_objects(folder: Path, limit: int) -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.float64]]]:
    """(class name, image, box) of coco128's large objects that ImageNet has labels for, in file order."""
    instances = json.loads((folder / "instances.json").read_text())
    names = {c["id"]: c["name"] for c in instances["categories"]}
    files = {i["id"]: i["file_name"] for i in instances["images"]}
    for a in instances["annotations"]:
        x, y, w, h = a["bbox"]
        if names[a["category_id"]] in IMAGENET_LABELS and w * h > 150 * 150 and limit:
            limit -= 1
            path = next(folder.rglob(files[a["image_id"]]))
            yield names[a["category_id"]], decode_image(path.read_bytes(), path.name), np.array([[x, y, x + w, y + h]])


@pytest.mark.shared
def test_the_real_weights_know_what_they_see() -> None:
    """Real SqueezeNet on coco128's objects: right far more often than chance, and than with colours swapped."""
    file = SHARED / "weights/squeezenet1_0_imagenet.safetensors"
    folder = SHARED / "data/coco128"
    if not file.exists() or not folder.exists():
        pytest.skip("needs ../shared/weights and ../shared/data")
    convention = InputSettings(color_order="bgr", value_range=255, mean=(104, 117, 123), side_px=227)
    network = initial_network(
        NetworkSettings(name="squeezenet1_0", weights=str(file.resolve()), input=convention), Path()
    )
    objects = list(large_objects(folder, 12))
    crops = np.concatenate([warp_regions(image, box, network.input) for _, image, box in objects])

    def right(x: NDArray[np.float32]) -> int:
        with torch.inference_mode():
            found = network(torch.from_numpy(x).to(memory_format=torch.channels_last)).argmax(1).tolist()
        return sum(label in IMAGENET_LABELS[name] for (name, _, _), label in zip(objects, found, strict=True))

    assert len(objects) == 12
    assert right(crops) >= 6
    assert right(crops) > right(crops[:, ::-1].copy())
