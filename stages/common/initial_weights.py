"""Where a network's weights come from before any fine-tuning: a safetensors file or torchvision."""

from pathlib import Path

from .errors import StageError
from .networks import ARCHITECTURES, InputSettings, InputSpec, Network, NetworkSettings, build
from .networks.metadata import MAX_OUTPUTS
from .weights import FORMAT, fill, network_in, open_weights


def initial_network(settings: NetworkSettings, root: Path) -> Network:
    """The network that ``network.weights`` names, in evaluation mode, before any fine-tuning; not for ``pretrain``.

    With ``network.fc`` it may still lack the layers of that parameter (:func:`.networks.add_fc_head` makes them).
    A path ending in .safetensors (relative to ``root``): foreign or own weights; the output count is the file's.
    Anything else: a torchvision weights name such as IMAGENET1K_V1, downloaded by torchvision into torch.hub's cache.
    ``StageError`` says what does not fit.
    """
    if settings.weights.endswith(".safetensors"):
        network = _from_file(settings, root / settings.weights)
    else:
        network = _from_torchvision(settings)
    _check_side(network)
    return network


def _check_side(network: Network) -> None:
    """``StageError`` where crops of the input's side cannot pass through the network."""
    try:
        network.feature_dim("fc8")
    except RuntimeError as error:
        own = ARCHITECTURES[network.name].input.side_px
        reason = str(error).splitlines()[0]
        raise StageError(
            f"network.input.side_px: {network.name} cannot take crops of {network.input.side_px} px ({reason}); "
            f"its own are {own} px (null)"
        ) from error


def _from_file(settings: NetworkSettings, path: Path) -> Network:
    tensors, meta = open_weights(path)
    if meta.get("format") == FORMAT:
        network = network_in(path, tensors, meta)
        if network.name != settings.name:
            raise StageError(f"{path}: holds weights of {network.name}, network.name is {settings.name}")
        for parameter, held, wanted in (
            ("pyramid", network.pyramid, _own_pyramid(settings, network.fc)),
            ("fc", network.fc, None if network.fc is None else settings.fc),
        ):
            if held != wanted:
                raise StageError(
                    f"{path}: holds weights with {parameter} {_shown(held)}, network.{parameter} is {_shown(wanted)}; "
                    "set it to the file's"
                )
        network.input = _spec(settings.input, network.input)
        if settings.pool5_grid is not None:
            network.pool5_grid = settings.pool5_grid
        return network
    head = ARCHITECTURES[settings.name].head
    if f"{head}.bias" not in tensors:
        raise StageError(f"{path}: no tensor {head}.bias, the last layer of {settings.name}; check network.name")
    spec = _spec(settings.input, ARCHITECTURES[settings.name].input)
    n_outputs = tensors[f"{head}.bias"].numel()  # of whatever shape: ``fill`` says what is wrong with it
    if not 1 <= n_outputs <= MAX_OUTPUTS:
        raise StageError(f"{path}: {head}.bias has {n_outputs} values, one per output; check network.weights")
    network = build(
        settings.name,
        n_outputs,
        pool5_grid=settings.pool5_grid,
        pyramid=_own_pyramid(settings),
        spec=spec,
        device="meta",
    )
    fill(network, tensors, str(path))
    return network.eval()


def _from_torchvision(settings: NetworkSettings) -> Network:
    import torchvision

    try:
        model_weights = torchvision.models.get_model_weights(settings.name)
    except ValueError:
        raise StageError(
            f"network.weights: torchvision has no network {settings.name}, so {settings.weights!r} is no weights name; "
            "use 'pretrain' or a .safetensors file"
        ) from None
    if settings.weights not in model_weights.__members__:
        raise StageError(
            f"network.weights: torchvision has no {settings.weights!r} for {settings.name}; there are "
            f"{', '.join(model_weights.__members__)}, or use 'pretrain' or a .safetensors file"
        )
    weights = model_weights[settings.weights]
    try:
        tensors = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise StageError(f"network.weights: cannot download {weights.url}: {error}") from error
    preset = weights.transforms()
    spec = InputSpec(preset.crop_size[0], "rgb", 1.0, tuple(preset.mean), tuple(preset.std))
    head = ARCHITECTURES[settings.name].head
    n_outputs = len(tensors[f"{head}.bias"])
    network = build(
        settings.name,
        n_outputs,
        pool5_grid=settings.pool5_grid,
        pyramid=_own_pyramid(settings),
        spec=_spec(settings.input, spec),
        device="meta",
    )
    fill(network, tensors, weights.url)
    return network.eval()


def _spec(settings: InputSettings | None, default: InputSpec) -> InputSpec:
    if settings is None:
        return default
    side = default.side_px if settings.side_px is None else settings.side_px
    return InputSpec(side, settings.color_order, float(settings.value_range), settings.mean, settings.std)


def _own_pyramid(settings: NetworkSettings, fc: tuple[int, ...] | None = None) -> tuple[int, ...] | None:
    """The pyramid of weights that hold layers of ``network.fc`` with outputs ``fc``: one comes with those layers."""
    return settings.pyramid if settings.fc is None or fc is not None else None


def _shown(numbers: tuple[int, ...] | None) -> str:
    return "null" if numbers is None else str(list(numbers))
