"""``rcnn params``: look at the parameters, or write them for a dataset and a network."""

import shlex
from pathlib import Path
from typing import Any

import click

from cache.errors import ParamsError
from cache.text import format_table, nearest
from pipeline.params import read_kind
from pipeline.params_table import markdown, rows
from pipeline.workspace import current_layout, open_params
from stages.networks.architectures import ARCHITECTURES


class _ShowsByDefault(click.Group):
    """A group that takes the beginning of a parameter's name where one expects a command: it is shown."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["show", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_ShowsByDefault)
def params() -> None:
    """Show every parameter, or write them for a dataset: `rcnn params svm` is short for `rcnn params show svm`."""


@params.command()
@click.argument("prefix", default="")
@click.option("--markdown", "as_markdown", is_flag=True, help="All of them as docs/parameters.md has them.")
@click.pass_obj
def show(project: Path, prefix: str, as_markdown: bool) -> None:
    """Every parameter whose name begins with PREFIX: its value here, its default, its range and meaning."""
    if as_markdown:
        click.echo(markdown(), nl=False)
        return
    values, kind = open_params(project), read_kind(current_layout(project))
    table = [(r.name, _at(values, r.name), r.default, r.values, r.description) for r in rows(kind.name)]
    shown = [row for row in table if row[0].lower().startswith(prefix.lower())]
    if not shown:
        names = [row[0] for row in table]
        hint = nearest(prefix, [*names, *(name.partition(".")[0] for name in names)])
        raise click.UsageError(f"no parameter's name begins with {prefix!r}{hint}")
    click.echo(format_table(("parameter", "here", "default", "values", "meaning"), shown))


@params.command()
@click.option("--dataset", required=True, metavar="NAME", help="A dataset that `rcnn dataset import` has registered.")
@click.option("--network", required=True, type=click.Choice(list(ARCHITECTURES)), help="Its architecture.")
@click.option(
    "--weights",
    required=True,
    metavar="FILE",
    help="A .safetensors file, or OverFeat's net_weight_0 or _1; a torchvision name such as IMAGENET1K_V1; pretrain.",
)
@click.option("--small", "preset", flag_value="small", help="A first look, in minutes.")
@click.option("--paper", "preset", flag_value="paper", help="The papers' values throughout.")
@click.option(
    "--input", "convention", type=click.Choice(["caffe", "torchvision"]), help="Where the file does not say what it is."
)
@click.option("--layer", metavar="NAME", help="What SVMs score.  [default: fc7, or pool5 where there is no fc7]")
@click.option("--train", metavar="SPLIT", help="[default: trainval, or train]")
@click.option("--test", metavar="SPLIT", help="[default: test, or val]")
@click.option("--class", "classes", multiple=True, metavar="NAME", help="Detect only these; give it once for each.")
@click.option(
    "--min-objects",
    type=click.IntRange(min=1),
    metavar="N",
    help="Leave out each class of fewer objects in the training images.",
)
@click.option(
    "--profile",
    type=click.Choice(["ilsvrc2013"]),
    help="The values of section 4 of the paper: val1 and train_1k, tested on val2 (docs/ilsvrc.md).",
)
@click.option("--force", is_flag=True, help="Replace a params.yaml that was edited; the former is kept beside it.")
@click.pass_obj
def init(project: Path, /, preset: str | None, force: bool, **asked: Any) -> None:
    """Write params.yaml, and those of the shipped detectors, to agree with a dataset and a network.

    Says what was chosen, why, and whose value it is; without --small or --paper values lie between the two, but for
    --profile, which has the paper's. What
    cannot work is refused here: splits that are not there, a file of another network, a layer that it lacks.
    """
    from pipeline.params_init.drafts import (  # torch comes with it
        Request,
        changes,
        drafts,
        edited,
        other_detectors,
        write,
    )

    usual = "medium" if asked["profile"] is None else "paper"
    request = Request(preset=preset or usual, **asked)  # type: ignore[arg-type]
    made = drafts(project, request, _command(preset, asked))
    lost = {draft.path: edited(draft) for draft in made}
    if any(lost.values()) and not force:
        raise ParamsError("\n".join(line for path, lines in lost.items() for line in _refused(path, lines)))
    for draft in made:
        for reason in draft.reasons:
            click.echo(reason)
    for draft in made:
        changed = changes(draft)
        former = write(draft, keep_former=bool(lost[draft.path]))
        click.echo(f"{draft.path}: written" + (f"; the former is {former}" if former else ""))
        for line in changed:
            click.echo(f"  {line}", err=True)
    for line in other_detectors(project, made):
        click.echo(line, err=True)
    others = [f"`dvc repro {draft.layout.dvc_file.relative_to(project)}`" for draft in made if not draft.layout.is_root]
    click.echo("; ".join(["next: `dvc repro report`", *others]), err=True)


def _refused(path: Path, differing: list[str]) -> list[str]:
    """Return the lines that say what of a file would be lost, and how to go on."""
    if not differing:
        return []
    how = "holds other values, which git does not have; --force replaces it and keeps the former beside it"
    return [f"{path}: {how}:", *(f"  {line}" for line in differing)]


def _command(preset: str | None, asked: dict[str, Any]) -> str:
    """Return the call, for the file's first line."""
    names = {"convention": "input", "classes": "class", "min_objects": "min-objects"}
    words = [
        f"--{names.get(name, name)} {shlex.quote(str(one))}"
        for name, value in asked.items()
        if value is not None
        for one in (value if isinstance(value, tuple) else (value,))
    ]
    return " ".join(["rcnn params init", *words, *([f"--{preset}"] if preset else [])])


def _at(values: Any, name: str) -> Any:
    for part in name.split("."):
        values = getattr(values, part, None)
    return values
