"""Stage ``pretrain``: the weights that everything starts from, as ``artifacts/pretrain/weights.safetensors``.

With ``network.weights: pretrain`` the network is trained on the classification set that comes with the
dataset (``classification.npz`` beside its registered manifest: half a minute on two cores for the built-in
one), or on the dataset itself where it has a class per picture (docs/classification.md). Otherwise the named
weights (torchvision's, or a safetensors file) are loaded, checked, and written in the same form.
"""

from typing import Any

import torch

from stages.contract import Context
from stages.networks.forward import device_of
from stages.networks.initial import initial_network
from stages.networks.network import Network, add_fc_head, build
from stages.networks.settings import NetworkSettings
from stages.networks.weights import class_names_meta, save_weights
from stages.training.checkpoint import Checkpoint
from stages.training.curve import write_curve
from stages.training.loop import torch_generator

from .from_scratch import CURVE_COLUMNS, pretrain, training_run
from .pictures import registered_pictures
from .settings import PretrainSettings


def run(ctx: Context) -> None:
    """Train from scratch or take given weights, as ``network.weights`` says."""
    settings = ctx.settings(NetworkSettings)
    if settings.weights == "pretrain":
        _pretrain(ctx, settings)
        return
    # A relative weights file is meant from the project's folder, which holds artifacts/datasets/NAME.
    network = _with_new_layers(ctx, initial_network(settings, ctx.input("registered").parents[2]))
    ctx.log.info(f"{settings.name} with weights {settings.weights}, {network.n_outputs} outputs")
    save_weights(ctx.output("weights"), network, {"stage": "pretrain", "source": settings.weights})
    write_curve(ctx.output("curve"), CURVE_COLUMNS, [])
    ctx.publish("trained", [], {})


def _with_new_layers(ctx: Context, network: Network) -> Network:
    """Add the layers of ``network.fc``, where the network's weights do not hold them already."""
    settings = ctx.settings(NetworkSettings)
    if settings.fc is None or settings.pyramid is None or network.fc is not None:
        return network
    ctx.log.info(
        f"fc6, fc7 and fc8 of {settings.name} are new and random; only fine-tuning (finetune.iterations) makes them "
        "worth anything"
    )
    return add_fc_head(network, settings.pyramid, settings.fc, torch_generator(ctx.seed, "pretrain", "new layers"))


def _pretrain(ctx: Context, network_settings: NetworkSettings) -> None:
    settings = ctx.settings(PretrainSettings)
    registered = ctx.input("registered")
    data, digest = registered_pictures(registered, settings.split, settings.held_out_fraction, ctx.seed)
    network = build(
        network_settings.name,
        data.n_classes,
        pool5_grid=network_settings.pool5_grid,
        pyramid=network_settings.pyramid,
        fc=network_settings.fc,
        generator=torch_generator(ctx.seed, "pretrain", "initial weights"),
    ).to(device_of(ctx.device))
    params = _made_with(ctx, settings, network)
    checkpoint = Checkpoint(ctx.work_dir(), {"version": ctx.node.version, "classification": digest, **params})

    def train() -> None:
        rows = pretrain(network, data, settings, training_run(settings, ctx.seed, ctx.workers), checkpoint, ctx.log)
        made_by = {"stage": "pretrain", "source": "classification set"}
        save_weights(ctx.output("weights"), network, made_by | class_names_meta(data.classes))
        write_curve(ctx.output("curve"), CURVE_COLUMNS, rows)
        ctx.after_commit(checkpoint.remove)
        ctx.log.info(f"held-out accuracy {rows[-1]['val_accuracy']:.3f}")

    ctx.trained({**params, "pool5_grid": network_settings.pool5_grid}, {"classification": digest}, train)


def _made_with(ctx: Context, settings: PretrainSettings, network: Network) -> dict[str, Any]:
    """Return what, beside the data, the trained weights depend on."""
    return {
        "seed": ctx.seed,
        "pretrain": settings.model_dump(mode="json", exclude={"checkpoint_every"}),
        "network": [network.name, network.pyramid, network.fc],
        "input": network.input.as_json(),
        "torch": torch.__version__,
        "device": str(next(network.parameters()).device),
    }
