"""``rcnn extract``: a network's features at every window of images, for other programs."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import click
import numpy as np

from cache.cores import usable_cores
from cache.errors import StageError
from cache.outputs import OutputFolder
from manifests import DatasetError
from manifests.images import decode, upright_size
from pipeline.cli.types import GivenPath
from pipeline.params import ExecutionSettings, read_kind
from pipeline.progress import Reporter
from pipeline.workspace import current_layout, open_params, untouchable
from stages.dense.extractor import DenseExtractor
from stages.dense.scales import check_scales
from stages.graph import FINETUNE, PRETRAIN, at
from stages.networks.architectures import ARCHITECTURES, NAMED_LAYERS, ArchitectureName
from stages.networks.forward import device_of
from stages.networks.initial import initial_network
from stages.networks.network import Network
from stages.networks.settings import ArithmeticSettings, NetworkSettings
from stages.networks.weights import load_weights

from .detect_large import Room
from .picture_files import Named, files_to_read


@click.command()
@click.argument("images", nargs=-1, required=True, type=GivenPath(path_type=Path), metavar="IMAGE|FOLDER...")
@click.option("--out", type=GivenPath(file_okay=False, path_type=Path), required=True, help="Folder to write to.")
@click.option(
    "--layer", type=click.Choice(NAMED_LAYERS), default="fc7", help="Which; pool5 is the window that fc6 takes."
)
@click.option("--before-relu", is_flag=True, help="The values that the layer's ReLU takes, as OverFeat's program's -f.")
@click.option("--coarse", is_flag=True, help="Windows at the last pooling's stride, not at each cell of the map.")
@click.option(
    "--scale-px", type=click.IntRange(16, 2048), help="The shorter side to bring images to.  [default: their own]"
)
@click.option(
    "--network",
    "name",
    type=click.Choice(list(ARCHITECTURES)),
    help="With --weights: this network, in place of the detector's.",
)
@click.option("--weights", metavar="FILE", help="A .safetensors file, net_weight_0 or _1, or a torchvision name.")
@click.pass_obj
def extract(
    project: Path,
    images: tuple[Path, ...],
    out: Path,
    layer: str,
    before_relu: bool,
    coarse: bool,
    scale_px: int | None,
    name: str | None,
    weights: str | None,
) -> None:
    """Write a layer's values in all windows of each image, and where the windows are, as NAME.npz.

    Arrays: features float32 [h, w, d]; boxes float32 [h, w, 4], x1, y1, x2, y2 in px of the image; scaled_px, width and
    height that the image was brought to: the nearest at which each offset of the last pooling has as many windows.

    The network is the detector's as fine-tuned for regions, else as pre-trained; with --network and --weights any, and
    no project is needed. An image that cannot be read is named at the end (exit code 2); the others are done all the
    same. No file is replaced but those that an earlier `rcnn extract` wrote to the folder, and nobody changed since.
    """
    if (name is None) != (weights is None):
        raise click.UsageError("--network and --weights go together: whose weights, and of which architecture")
    files, passed_over = files_to_read(images, ".npz")
    outputs, log = OutputFolder(out, "give another folder by --out"), Reporter("extract")
    params = open_params(project) if name is None or (project / "params.yaml").exists() else None
    protected = {} if params is None else untouchable(project)
    outputs.check([npz for _, npz in files], [path for path, _ in files], protected)
    execution = ExecutionSettings() if params is None else params.execution
    network, dtype = _own(project, log) if name is None or weights is None else (_given(name, weights), "float32")
    compute = DenseExtractor(
        network,
        layer,
        before_relu=before_relu,
        coarse=coarse,
        scale_px=scale_px,
        dtype=dtype,
        device=device_of(execution.device),
    )
    if scale_px is not None:
        check_scales([scale_px], compute.windows, "--scale-px")
    for line in passed_over:
        log.info(line)
    outputs.prepare()
    windows, problems = _written(_Images(compute, outputs, log), files, execution.workers or usable_cores(), log)
    click.echo(
        f"{layer}{' before its ReLU' if before_relu else ''} of {len(files) - len(problems)} images: {windows} windows "
        f"x {compute.length} values in {out}"
    )
    if problems:
        raise StageError("\n".join(problems))


def _given(name: str, weights: str) -> Network:
    """Return the network of the command line; a file's path is relative to the folder that one stands in."""
    if weights in ("", "pretrain"):
        raise click.UsageError(f"--weights {weights!r}: name a file, or torchvision's weights such as IMAGENET1K_V1")
    return initial_network(NetworkSettings(name=cast(ArchitectureName, name), weights=weights), Path())


def _own(project: Path, log: Reporter) -> tuple[Network, str]:
    """Return the detector's network as fine-tuned for regions, else as pre-trained, and its arithmetic.

    Fast and Faster R-CNN's and OverFeat's own trainings start from the pre-trained one, and are not looked at.
    """
    layout = current_layout(project)
    kind = read_kind(layout)
    places = [one for stage in (FINETUNE, PRETRAIN) for one in kind.places if one.stage is stage]
    paths = [project / at(one, layout.name).outputs["weights"] for one in places]
    if not paths:
        raise StageError(
            f"detector {layout.name}: one of kind {kind.name} has no network of its own; choose another by `rcnn -d "
            "NAME`, or give --network and --weights"
        )
    found = next((path for path in paths if path.exists()), None)
    if found is None:
        raise StageError(
            f"{paths[-1]}: not found, and so there are no weights; run `dvc repro`, or give --network and --weights"
        )
    log.info(f"weights of {found}")
    return load_weights(found), open_params(project).groups.of("network", ArithmeticSettings).dtype


class _Images:
    """Computes and writes the features of one image after another; safe to call from several threads."""

    def __init__(self, compute: DenseExtractor, outputs: OutputFolder, log: Reporter) -> None:
        self._compute, self._outputs, self._log, self._room = compute, outputs, log, Room()

    def __call__(self, item: Named) -> int | DatasetError | StageError:
        """Write one image's file; returns how many windows it has, or why it has none."""
        path, npz = item
        try:
            size = upright_size(path)
            with self._room.taken(0 if size is None else self._compute.bytes_needed(*size)):
                picture = decode(_read(path), str(path))
                found = self._compute(picture.pixels)
                with self._outputs.written_aside(npz) as unfinished, unfinished.open("wb") as file:
                    np.savez(file, features=found.features, boxes=found.boxes, scaled_px=np.array(found.scaled_px))
        except DatasetError as error:
            return error
        except StageError as error:
            return StageError(f"{path}: {error}")
        if picture.missing:
            self._log.warning(f"{path}: {picture.missing}")
        return int(np.prod(found.features.shape[:2]))


def _read(path: Path) -> bytes:
    """Read a file; ``StageError`` where the system refuses."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise StageError(f"cannot be read ({error.strerror}); check the path") from None


def _written(images: _Images, files: Sequence[Named], workers: int, log: Reporter) -> tuple[int, list[str]]:
    """Write all files, several at a time; returns how many windows they have, and a line for each that has none."""
    windows, problems = 0, list[str]()
    with ThreadPoolExecutor(workers) as pool:
        for number, result in enumerate(pool.map(images, files), 1):
            if isinstance(result, DatasetError | StageError):
                problems.append(str(result))
                continue
            windows += result
            log.progress(number, len(files), "images", f"{windows} windows")
    return windows, problems
