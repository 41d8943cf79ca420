"""Stage ``dense_maps``, node ``maps``: conv5 of every image at every scale (OverFeat section 3.3, Table 5).

Reads the network; writes a zarr object per image and the manifest. The convolutions are not trained again, so that
training what lies behind them, and sliding it over an image, computes none. Cost: one pass of the convolutions per
image and scale, two where mirror images are trained on.
"""

from stages.contract import Context
from stages.dense.maps import DenseMapsCompute, described, map_task
from stages.dense.scales import check_scales, paper_scales
from stages.dense.windows import windows_of
from stages.networks.settings import ArithmeticSettings
from stages.networks.weights import load_weights

from .settings import DenseMapsSettings, DenseMirror, RegressMirror


def run(ctx: Context) -> None:
    """Compute the maps that the store lacks."""
    settings, network = ctx.settings(DenseMapsSettings), load_weights(ctx.input("weights"))
    mirror = ctx.settings(DenseMirror).mirror or ctx.settings(RegressMirror).mirror
    windows = windows_of(network)
    scales = sorted(settings.scales_px or paper_scales(windows))
    check_scales(scales, windows, "maps.scales_px")
    made_of = described(network, scales, settings.storage, ctx.settings(ArithmeticSettings).dtype)
    images = ctx.dataset().images
    tasks = [map_task(record, made_of, mirrored=mirror and record.split == "train") for record in images]
    keys = ctx.compute_images(tasks, DenseMapsCompute(ctx.image, network, ctx.device, made_of), unit="maps")
    summary = made_of | {"mirrored": mirror}
    ctx.publish("manifest", [(record.id, key) for record, key in zip(images, keys, strict=True)], summary)
