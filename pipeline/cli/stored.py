"""What a detector's network makes and the store keeps: regions' features, or whole images' maps."""

from pathlib import Path

from cache.errors import StageError
from pipeline.params import read_kind
from pipeline.workspace import current_layout


def stored_node(project: Path) -> str:
    """Name the node that stores what this detector's network makes; StageError where none does."""
    layout = current_layout(project)
    kind = read_kind(layout)
    nodes = {place.name for place in kind.places}
    found = next((name for name in ("features", "maps") if name in nodes), None)
    if found is None:
        raise StageError(
            f"detector {layout.name}: one of kind {kind.name} stores no features; it computes maps as it needs them"
            if "roi_detect" in nodes
            else f"detector {layout.name}: one of kind {kind.name} has no features of its own; look at those it joins"
        )
    return found
