"""Read cached features without this software: ``python examples/read_features.py PROJECT``

artifacts/features/manifest.json lists (image id, key); the object with that key is a folder of the store, and its
data.zarr a plain zarr group with one array per layer (docs/store.md).
"""

import json
import sys
from pathlib import Path
from typing import Any

import zarr


def main(project: str) -> None:
    """Print, for each image, its regions, each layer's shape, and the file it is of."""
    artifacts = Path(project) / "artifacts"
    listed = json.loads((artifacts / "features/manifest.json").read_text(encoding="utf-8"))
    for image_id, key in listed["entries"]:
        # Any: to zarr's types a group's member may be a group too, and an array's rows a number.
        group: Any = zarr.open_group(artifacts / "objects/features" / key[:2] / key / "data.zarr", mode="r")
        truth = int(group["is_gt"][:].sum())  # rows of ground truth come first, then the proposals
        layers = {name: group[name].shape for name in listed["summary"]["layers"]}
        print(f"image {image_id} ({group.attrs['image']}): {truth} objects, {group['boxes'].shape[0]} rows, {layers}")


if __name__ == "__main__":
    main(*sys.argv[1:])
