"""``rcnn metrics``."""

import json
from pathlib import Path

import click

from cache.errors import ParamsError
from pipeline.workspace import current_layout


@click.command()
@click.pass_obj
def metrics(project: Path) -> None:
    """Print AP per class and mAP of the last evaluation, with and without bounding-box regression."""
    from stages.scoring.metrics import scores_table

    layout = current_layout(project)
    path, again = layout.reports / "scores.json", "" if layout.is_root else f" detectors/{layout.name}/dvc.yaml"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(f"{path}: not found; run `dvc repro{again}` first") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ParamsError(f"{path}: is not JSON ({error}); run `dvc repro -f -s evaluate`") from None
    try:
        table = scores_table(found)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ParamsError(f"{path}: lacks scores ({error!r}); run `dvc repro -f -s evaluate`") from None
    click.echo(table)
    page = path.with_name("index.html")
    if page.exists():
        click.echo(f"\nReport: {page}")
