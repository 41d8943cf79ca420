"""``rcnn extract``: what it writes and under which names, whose network it takes, and that nothing is replaced."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from stages.dense.extractor import DenseExtractor
from stages.networks.network import Network, build
from stages.networks.weights import load_weights, save_weights

Run = Callable[..., tuple[int, str, str]]
Arrays = Mapping[str, NDArray[Any]]


def weights(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_weights(path, build("small", 4, generator=torch.Generator().manual_seed(seed)))
    return path


def photo(path: Path, seed: int = 0, size: tuple[int, int] = (90, 120)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)).save(path)
    return path


def pixels(path: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path).convert("RGB"))


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def read(path: Path) -> Arrays:
    with np.load(path) as arrays:
        return dict(arrays)


def check(path: Path, image: Path, network: Network, **asked: Any) -> None:
    """Whether a file holds what the extractor makes of the image."""
    expected, found = DenseExtractor(network, asked.pop("layer", "fc7"), **asked)(pixels(image)), read(path)
    assert set(found) == {"features", "boxes", "scaled_px"}
    np.testing.assert_array_equal(found["features"], expected.features)
    np.testing.assert_array_equal(found["boxes"], expected.boxes)
    assert found["features"].shape[:2] == found["boxes"].shape[:2] and tuple(found["scaled_px"]) == expected.scaled_px


def test_without_a_project_any_network_of_a_file(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given, image = weights(tmp_path / "w/net.safetensors"), photo(tmp_path / "a.png")
    call = ("extract", image, "--network", "small", "--weights", "w/net.safetensors")
    code, said, err = run(*call, "--out", "plain")
    assert code == 0, err
    assert said == "fc7 of 1 images: 32 windows x 512 values in plain\n"
    check(tmp_path / "plain/a.npz", image, load_weights(given))
    options = ("--layer", "fc6", "--before-relu", "--coarse", "--scale-px", "100")
    code, said, err = run(*call, *options, "--out", tmp_path / "other")
    assert code == 0 and said.startswith("fc6 before its ReLU of 1 images: "), err
    asked: dict[str, Any] = {"before_relu": True, "coarse": True, "scale_px": 100}
    check(tmp_path / "other/a.npz", image, load_weights(given), layer="fc6", **asked)


def test_the_detectors_own_weights_are_the_fine_tuned_ones_else_the_pretrained(run: Run, project: Path) -> None:
    image, out = photo(project / "a.png"), project / "out"
    code, _, err = run("-C", project, "extract", image, "--out", out)
    assert code == 2 and "artifacts/pretrain/weights.safetensors: not found" in err and err.count("\n") == 1
    for node, seed in (("pretrain", 1), ("finetune", 2)):
        own = weights(project / f"artifacts/{node}/weights.safetensors", seed)
        code, _, err = run("-C", project, "extract", image, "--out", out)
        assert code == 0 and f"weights of {own}" in err
        check(out / "a.npz", image, load_weights(own))
    folder = project / "detectors/other"
    folder.mkdir(parents=True)
    (folder / "params.yaml").write_text("kind: faster\n")
    own = weights(project / "artifacts/detectors/other/pretrain/weights.safetensors", 3)
    code, _, err = run("-C", project, "-d", "other", "extract", image, "--out", out)
    assert code == 0, err
    check(out / "a.npz", image, load_weights(own))
    (folder / "params.yaml").write_text("kind: combined\n")
    code, _, err = run("-C", project, "-d", "other", "extract", image, "--out", out)
    assert code == 2 and "one of kind combined has no network of its own" in err


def test_images_of_one_name_do_not_meet_and_what_cannot_be_read_is_named(run: Run, project: Path) -> None:
    own = load_weights(weights(project / "artifacts/pretrain/weights.safetensors"))
    names = ("x/a.png", "y/a.bmp", "y/deep/a.png")
    images = {name: photo(project / name, i) for i, name in enumerate(names)}
    (project / "y/broken.png").write_bytes(b"no picture")
    photo(project / "y/strip.png", size=(20, 30_000))
    out = project / "out"
    code, said, err = run("-C", project, "extract", images["x/a.png"], project / "y", "--out", out)
    assert code == 2 and said.startswith("fc7 of 3 images: ")
    problems = [line for line in err.splitlines() if line.startswith("rcnn: ")]
    assert (
        len(problems) == 2 and "broken.png: is not an image" in problems[0] and "strip.png: 30000 x 20" in problems[1]
    )
    assert {name for name in files(out) if name.endswith(".npz")} == {"a.npz", "a-2.npz", "deep/a.npz"}
    for npz, name in {"a.npz": "x/a.png", "a-2.npz": "y/a.bmp", "deep/a.npz": "y/deep/a.png"}.items():
        check(out / npz, images[name], own)


def test_nothing_of_the_users_is_replaced(run: Run, project: Path) -> None:
    weights(project / "artifacts/pretrain/weights.safetensors")
    image, out = photo(project / "photos/a.png"), project / "out"
    call = ("-C", project, "extract", image, "--out", out)
    assert run(*call)[0] == 0
    first = (out / "a.npz").read_bytes()
    assert run(*call)[0] == 0 and (out / "a.npz").read_bytes() == first  # ours: the same bytes again
    (out / "a.npz").write_bytes(first + b"edited")
    before = files(project)
    code, said, err = run(*call)
    assert (code, said) == (2, "") and "a.npz: would be replaced" in err and "--out" in err
    code, _, err = run(*call[:-1], project / "artifacts/pretrain")
    assert code == 2 and "results" in err
    assert files(project) == before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nothing.png"], "nothing.png: no such file or folder"),
        (["a.png", "--network", "small"], "--network and --weights go together"),
        (["a.png", "--weights", "w.safetensors"], "--network and --weights go together"),
        (["a.png", "--network", "smal", "--weights", "w"], "'smal' is not one of"),
        (["a.png", "--network", "small", "--weights", ""], "--weights '': name a file"),
        (["a.png", "--network", "small", "--weights", "pretrain"], "--weights 'pretrain': name a file"),
        (["a.png", "--network", "small", "--weights", "none.safetensors"], "none.safetensors: no such weights file"),
        (
            ["a.png", "--network", "vgg16", "--weights", "w.safetensors"],
            "holds weights of small, network.name is",
        ),
        (["a.png", "--network", "overfeat_fast", "--weights", "net_weight_0"], "net_weight_0: holds 2 numbers"),
        (["a.png", "--network", "small", "--weights", "w.safetensors", "--layer", "fc9"], "'fc9' is not one of"),
        (
            ["a.png", "--network", "small", "--weights", "w.safetensors", "--scale-px", "63"],
            "--scale-px: 63 px is",
        ),
        (["a.png", "--network", "small", "--weights", "w.safetensors", "--scale-px", "0"], "--scale-px"),
        (
            ["a.png", "--network", "small", "--weights", "w.safetensors", "--layer", "fc8", "--before-relu"],
            "layer fc8 of network small does not end in a ReLU",
        ),
        (["a.png"], "params.yaml: not found"),
    ],
)
def test_wrong_calls_are_one_line_and_leave_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    photo(tmp_path / "a.png")
    weights(tmp_path / "w.safetensors")
    (tmp_path / "net_weight_0").write_bytes(b"12345678")
    code, said, err = run("extract", *arguments, "--out", "out")
    assert (code, said) == (2, "") and expected in err
    assert len([line for line in err.splitlines() if line.startswith(("rcnn: ", "Error: "))]) == 1
    assert not (tmp_path / "out").exists()
