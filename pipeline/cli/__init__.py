"""``rcnn``: one command line for everything that is not ``dvc``'s.

Data goes to stdout, messages to stderr. Exit codes: 0 done, 2 the input or the parameters are wrong (one clear line
each), 130 interrupted. Commands are imported only when called, so that ``rcnn --help`` does not wait for torch.
"""

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import click

from pipeline.cli.types import GivenPath

_COMMANDS = {
    "run": (
        "pipeline.cli.run",
        "run",
        "Run single stages as dvc repro would, without looking at what is fresh.",
    ),
    "detector": ("pipeline.cli.detector", "detector", "Add, list, remove detectors; write their dvc.yaml."),
    "dataset": ("pipeline.cli.dataset", "dataset", "Import, check and show datasets."),
    "detect": ("pipeline.cli.detect", "detect", "Run the trained detector on new images."),
    "segment": ("pipeline.cli.segment", "segment", "Run the trained segmentation on new images."),
    "detections": (
        "pipeline.cli.detections",
        "detections",
        "Save a run's detections, or import another program's.",
    ),
    "classification": ("pipeline.cli.classification", "classification", "Save a run of classify, for a committee."),
    "cache": ("pipeline.cli.cache", "cache", "List, show, verify and clean what is cached."),
    "extract": ("pipeline.cli.extract", "extract", "Write a network's features at every window of images."),
    "features": ("pipeline.cli.features", "features", "Look into cached features and feature maps."),
    "params": ("pipeline.cli.params", "params", "Show every parameter, or write them for a dataset."),
    "compare": ("pipeline.cli.compare", "compare", "Put several detectors' results on one page."),
    "diagnose": ("pipeline.cli.diagnose", "diagnose", "Tell what any detector's mistakes are."),
    "grid": ("pipeline.cli.grid", "grid", "Run a table of experiments that a file declares, and print it."),
    "metrics": ("pipeline.cli.metrics", "metrics", "Print the table of the last evaluation."),
}


class _LazyGroup(click.Group):
    """A group whose commands are imported on use; their one-line help stands in the table above."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module, attribute, _ = _COMMANDS[name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in _COMMANDS:
            from cache.text import nearest

            ctx.fail(f"no such command {args[0]!r}{nearest(args[0], _COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.option(
    "-C",
    "--project",
    type=GivenPath(exists=True, file_okay=False, path_type=Path),
    help="Project folder: where dvc.yaml and params.yaml are.  [default: this folder, or of a detector's folder its "
    "project's]",
)
@click.option(
    "-d",
    "--detector",
    "name",
    metavar="NAME",
    help="Which detector of the project: a folder of detectors/.  [default: the root's R-CNN, or in a detector's "
    "folder that one]",
)
@click.version_option(package_name="rcnn")
@click.pass_context
def cli(ctx: click.Context, project: Path | None, name: str | None) -> None:
    """R-CNN and its successors as staged pipelines: proposals, CNN features, SVMs, box regression, evaluation."""
    here = Path.cwd()
    stands_in_one = here.parent.name == "detectors" and (here.parents[1] / "dvc.yaml").exists()
    if project is None and stands_in_one and (here / "params.yaml").exists():
        project, name = here.parents[1], name or here.name
    ctx.obj = project or Path()
    if name is not None:
        ctx.meta["detector"] = name


def _explained(error: OSError) -> str:
    """One line for what the operating system refused; raised again where it names no file, which is our mistake."""
    from cache import FULL  # numpy comes with it

    full = error.errno in FULL
    if error.filename is None and not full:
        raise error
    where = f"{error.filename}: " if error.filename is not None else ""
    what = (error.strerror or str(error)).lower()
    space = "free some space or raise the limit on file sizes, then run it again"
    return f"{where}{what}; {space if full else 'check path and permissions'}"


def main() -> None:
    """Entry point: turns errors meant for the user into lines on stderr and exit code 2."""
    try:
        cli.main(prog_name="rcnn", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except click.Abort:
        sys.exit(130)
    except BrokenPipeError:
        # The reader (head, less) has seen enough; silence the interpreter's own flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        from cache.errors import USER_ERRORS, InterruptedRun

        if isinstance(error, InterruptedRun):
            if str(error):
                click.echo(f"rcnn: {error}", err=True)
            sys.exit(130)
        if isinstance(error, OSError) and not isinstance(error, FileExistsError):
            text = _explained(error)
        elif isinstance(error, (*USER_ERRORS, FileExistsError)):
            text = str(error)
        else:
            raise
        click.echo("\n".join(f"rcnn: {line}" for line in text.splitlines()), err=True)
        sys.exit(2)
