"""Small inputs that commands are tried on: a VOC folder, and weights files that are only a header."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from stages.networks.network import build


def voc_folder(
    folder: Path, splits: Mapping[str, int], *, width: int = 120, height: int = 90, objects: int = 1
) -> Path:
    """Write a VOC folder of so many images in each split, with ``objects`` boxes of classes cat and dog each."""
    rng = np.random.default_rng(0)
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    for split, count in splits.items():
        names = [f"{split}{i}" for i in range(count)]
        (folder / f"ImageSets/Main/{split}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            pixels = rng.integers(0, 60, (height, width, 3), np.uint8)
            boxes = []
            for k in range(objects):
                x, y = 10 + k, 10 + k
                pixels[y : y + 40, x : x + 50] += np.uint8(150)
                label = ("cat", "dog")[(k if objects > 1 else int(name[-1])) % 2]
                corners = f"<xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + 50}</xmax><ymax>{y + 40}</ymax>"
                boxes.append(f"<object><name>{label}</name><bndbox>{corners}</bndbox></object>")
            Image.fromarray(pixels).save(folder / f"JPEGImages/{name}.jpg")
            extent = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
            xml = f"<annotation><filename>{name}.jpg</filename>{extent}{''.join(boxes)}</annotation>"
            (folder / f"Annotations/{name}.xml").write_text(xml)
    return folder


def weights_header(path: Path, network: str, meta: Mapping[str, str] | None = None, n_outputs: int = 3) -> Path:
    """Write a safetensors file with a network's tensors, whose values are a hole of the file system."""
    header: dict[str, object] = {"__metadata__": dict(meta)} if meta else {}
    end = 0
    for name, tensor in build(network, n_outputs, device="meta").trunk.state_dict().items():
        start, end = end, end + tensor.numel() * tensor.element_size()
        dtype = "F32" if tensor.is_floating_point() else "I64"
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return path
