"""Stage ``maps``: the feature map that RPN and detector share, of every image (Faster R-CNN section 3.2).

Reads the network whose convolutions are no longer trained; writes a zarr object per image and the manifest. So steps 3
and 4 train what lies behind them without computing a convolution, and a map serves proposals and detections.
Cost: one pass of the convolutions per image, two where mirror images are trained on.
"""

from stages.contract import Context
from stages.networks.settings import ArithmeticSettings

from .maps import SharedMapsCompute, described, map_task
from .network import load_regions
from .settings import FastMirror, MapsSettings, RpnMirror


def run(ctx: Context) -> None:
    """Compute the maps that the store lacks."""
    settings, network = ctx.settings(MapsSettings), load_regions(ctx.input("weights"))
    mirror = ctx.settings(RpnMirror).mirror or ctx.settings(FastMirror).mirror
    made_of = described(network, settings, ctx.settings(ArithmeticSettings).dtype)
    images = ctx.dataset().images
    tasks = [map_task(record, made_of, mirrored=mirror and record.split == "train") for record in images]
    keys = ctx.compute_images(tasks, SharedMapsCompute(ctx.image, network, settings, ctx.device, made_of), unit="maps")
    ctx.publish("manifest", [(record.id, key) for record, key in zip(images, keys, strict=True)], made_of)
