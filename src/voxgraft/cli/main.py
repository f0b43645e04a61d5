"""The command line ``voxgraft VERB``: stdout is data, stderr is talk.

Exit codes: 0 success, 1 a negative finding (a check that fails), 2 a user's mistake, told in one
message without a traceback (``--debug`` shows it).
"""

from __future__ import annotations

import sys

import typer

from voxgraft import __version__
from voxgraft.cli import (
    compare,
    data,
    demo,
    doctor,
    evaluate,
    finetune,
    graft,
    inspect,
    listings,
    plan,
    predict,
    pretrain,
    push,
    report,
)
from voxgraft.errors import VoxgraftError

app = typer.Typer(
    name="voxgraft",
    help="Start 3D medical models from the best pre-trained weights, and prove whether it helped.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"voxgraft {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Start 3D medical models from the best pre-trained weights, and prove whether it helped."""


app.command("doctor")(doctor.doctor)
app.command("sources")(listings.sources)
app.command("models")(listings.models)
app.command("inspect")(inspect.inspect)
app.command("graft")(graft.graft)
app.add_typer(data.app, name="data")
app.command("plan")(plan.plan)
app.command("pretrain")(pretrain.pretrain)
app.command("finetune")(finetune.finetune)
app.command("compare")(compare.compare)
app.command("report")(report.report)
app.command("evaluate")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("push")(push.push)
app.command("demo")(demo.demo)


def _of_the_system(error: OSError) -> str:
    names = [str(name) for name in (error.filename2, error.filename) if name is not None]
    where = f"{names[0]}: " if names else ""
    return (
        f"{where}{error.strerror}. Check the path, its permissions and the space left on the "
        "disk; `--debug` shows where this happened."
    )


def run() -> None:
    """Run the command line; the entry point of the installed program."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    try:
        app()
    except VoxgraftError as error:
        if debug:
            raise
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
    except BrokenPipeError:  # the reader of stdout went away (| head): nothing more to say
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:  # a folder that may not be written, a full disk
        if debug or error.strerror is None:  # no fault of the system's: a mistake of ours
            raise
        typer.echo(f"error: {_of_the_system(error)}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(130)


if __name__ == "__main__":
    run()
