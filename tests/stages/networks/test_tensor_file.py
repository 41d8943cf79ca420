"""Tensor files: the library's own bytes but for the order of the metadata, and no more memory than a tensor."""

import json
import tracemalloc

import torch
from safetensors.torch import load, save

from stages.networks.tensor_file import _TYPES, tensor_file


def by_library(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> bytes:
    """Write a file as the library does, the header then written anew with its metadata sorted."""
    data = save(tensors, metadata)
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[start:]


def test_the_same_as_the_librarys() -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        f"{prefix}.{str(dtype)[6:]}": torch.randint(0, 2, shape, generator=generator).to(dtype)
        for dtype in _TYPES
        for prefix, shape in (("b", (3, 2)), ("a", (5,)), ("c", ()), ("none", (0, 4)))
    }
    tensors["ä.weight"] = torch.rand(2, 3, 4, 5, generator=generator)
    metadata = {"z": "1", "classes": '["cow", "kälbchen"]', "a": "2"}
    data = b"".join(tensor_file(tensors, metadata))
    assert data == by_library(tensors, metadata)
    back = load(data)
    assert {name: (v.dtype, v.shape) for name, v in back.items()} == {
        name: (v.dtype, v.shape) for name, v in tensors.items()
    }


def test_the_order_in_memory_and_of_the_names_does_not_matter() -> None:
    weight = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    plain = {"a": weight, "b": torch.ones(1)}
    other = {"b": torch.ones(1, requires_grad=True), "a": weight.to(memory_format=torch.channels_last)}
    found = [b"".join(tensor_file(*given)) for given in ((plain, {"x": "1", "y": ""}), (other, {"y": "", "x": "1"}))]
    assert found[0] == found[1] == by_library(plain, {"x": "1", "y": ""})


def test_the_tensors_are_not_copied() -> None:
    weight = torch.zeros(2**20)
    tracemalloc.start()
    try:
        pieces = [piece for piece in tensor_file({"weight": weight}, {}) if isinstance(piece, memoryview)]
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    weight[7] = 1
    assert pieces[0][28:32] == torch.tensor(1.0).numpy().tobytes()
