"""What the last `dvc repro` left of a detector, for whoever puts it together to run on new images."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from cache import Artifact, digest_file
from cache.errors import StageError
from manifests import decode_image
from stages.contract import Node
from stages.detections.search import ProposalSearch
from stages.fast.settings import SourceSettings
from stages.graph import HEAD, KINDS, ROOT, SEGMENTATION, Kind, at
from stages.proposals.methods import prepare
from stages.proposals.settings import ProposalsSettings


@dataclass(frozen=True)
class TrainedFiles:
    """The files of one detector of a project."""

    project: Path
    name: str

    @cached_property
    def kind(self) -> Kind:
        """What its params.yaml says that it is; StageError where there is no such detector."""
        return self._said[0]

    @cached_property
    def _said(self) -> tuple[Kind, SourceSettings]:
        """What its params.yaml says: its kind, and whose proposals it takes where that is for it to say."""
        if self.name == ROOT:
            return KINDS[ROOT], SourceSettings()
        path = self.project / "detectors" / self.name / "params.yaml"
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8"))
            return KINDS[document["kind"]], SourceSettings.model_validate(document.get("regions") or {})
        except FileNotFoundError:
            raise StageError(
                f"{self.project}: has no detector {self.name!r}; `rcnn detector ls` lists those there are"
            ) from None
        except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
            why = " ".join(str(error).split())
            raise StageError(f"{path}: does not say which kind of detector it is ({why}); mend the file") from None

    def node(self, name: str) -> Node:
        """Return one of its nodes, of those that all detectors share, or of the root's of segmentation's."""
        places = (*HEAD, *self.kind.places, *(SEGMENTATION if self.name == ROOT else ()))
        return at(next(one for one in places if one.name == name), self.name, self._said[1])

    def of(self, node: str, output: str) -> Path:
        """Return the path of a node's output."""
        return self.project / self.node(node).outputs[output]

    def read_by(self, node: str, name: str) -> Path:
        """Return the path of a node's input."""
        return self.project / self.node(node).inputs[name]

    def made_with(self, node: str, *names: str) -> Artifact:
        """Read a node's list, made from the files that are there now; StageError where one of the inputs is another.

        A stage run by itself, or a run that was stopped, leaves parts that do not belong together.
        """
        found = Artifact.read(self.of(node, "manifest"))
        for name in names:
            path = self.read_by(node, name)
            if found.inputs.get(name) != digest_file(path):
                made = self.of(node, "manifest").parent.relative_to(self.project)
                raise StageError(
                    f"{path}: not the one that {made} was made with; run `dvc repro`, which runs what is missing"
                )
        return found


def proposal_search(path: Path) -> ProposalSearch:
    """Return what proposes as a project's list of proposals was made; StageError where they came from a file."""
    made = Artifact.read(path)
    settings = ProposalsSettings.model_validate(made.params["proposals"])
    if settings.method == "file":
        raise StageError(
            "the detector was trained on proposals from a file, which new images do not have; "
            "set proposals.method to selective_search and run `dvc repro`"
        )
    prepare(settings)
    return ProposalSearch(settings, int(made.params["seed"]))


def pixels_of(image: str | Path | NDArray[np.uint8]) -> tuple[NDArray[np.uint8], str]:
    """Upright RGB pixels, and the digest that seeds the ranking of this image's proposals."""
    if isinstance(image, str | Path):
        data = _read(Path(image))
        return decode_image(data, str(image)), hashlib.sha256(data).hexdigest()
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        given = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise StageError(f"an image must be a file or a uint8 [H, W, 3] RGB array, not {given}")
    if not image.size:
        raise StageError(f"an image must have pixels, and this one is of shape {image.shape}")
    return image, hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StageError(f"{path}: cannot be read ({error.strerror}); check the path") from None
