"""``rcnn params``."""

from pathlib import Path
from typing import Any

import click

from cache.text import format_table, nearest
from pipeline.params_table import markdown, rows
from pipeline.workspace import open_params


@click.command()
@click.argument("prefix", default="")
@click.option("--markdown", "as_markdown", is_flag=True, help="All of them as docs/parameters.md has them.")
@click.pass_obj
def params(project: Path, prefix: str, as_markdown: bool) -> None:
    """Every parameter whose name begins with PREFIX: its value here, its default, its range and meaning."""
    if as_markdown:
        click.echo(markdown(), nl=False)
        return
    values = open_params(project)
    table = [(r.name, _at(values, r.name), r.default, r.values, r.description) for r in rows()]
    shown = [row for row in table if row[0].lower().startswith(prefix.lower())]
    if not shown:
        names = [row[0] for row in table]
        hint = nearest(prefix, [*names, *(name.partition(".")[0] for name in names)])
        raise click.UsageError(f"no parameter's name begins with {prefix!r}{hint}")
    click.echo(format_table(("parameter", "here", "default", "values", "meaning"), shown))


def _at(values: Any, name: str) -> Any:
    for part in name.split("."):
        values = getattr(values, part, None)
    return values
