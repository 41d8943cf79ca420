"""A safetensors file, piece by piece: ``safetensors.torch.save`` holds all of it in memory, twice."""

import json
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

# In the order in which the library writes tensors, those that need the strictest alignment first.
_TYPES = {
    torch.uint64: "U64",
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.uint32: "U32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint16: "U16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
TYPES = {name: dtype for dtype, name in _TYPES.items()}  # by the names that a header has
_ALIGNMENT = 8  # of the tensors, by spaces behind the header


def tensor_file(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Iterator[bytes | memoryview]:
    """Write a safetensors file of these tensors piece by piece; one tensor at most is copied (from its device).

    As the library writes it, but with the metadata sorted, which it writes in an order of the moment: equal content
    gives equal bytes.
    """
    ranks = {dtype: rank for rank, dtype in enumerate(_TYPES)}
    names = sorted(tensors, key=lambda name: (ranks[tensors[name].dtype], name))
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    end = 0
    for name in names:
        tensor, start = tensors[name], end
        end = start + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    yield len(text).to_bytes(8, "little") + text
    for name in names:
        own = tensors[name].detach().cpu().contiguous()
        yield own.reshape(-1).view(torch.uint8).numpy().data


def tensors_below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Pick the tensors whose names begin with the prefix, under the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
