"""The command line `equipoise`: which commands there are, and how all of them end.

A module a family of commands; what they do stands there, and what it takes stands in the packages below. Only here is
an expected failure turned into its line and exit status (`endings`).
"""

import importlib
import sys

import typer
from typer.main import get_command

from worker.cli import accounts, dead, demo, porting, proof, sender, serve, tracing, transfers
from worker.cli.endings import EXPECTED, Failed, Status, end_on_sigterm, told
from worker.cli.show import warn

app = typer.Typer(
    name="equipoise",
    help="A Celery worker that moves money exactly once.",
    epilog="Exit statuses: 0 done; 1 the answer is no; 2 not understood; 65 or 66 a file cannot be used or read;"
    " 69 servers are away; 75 sent and not answered; 78 not migrated, or a setting is wrong; 130 Ctrl-C.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    demo.demo,
    serve.up,
    serve.migrate,
    sender.send,
    accounts.account,
    accounts.statement,
    transfers.transfers,
    tracing.trace,
    proof.verify,
    proof.checkpoint,
):
    app.command()(command)
app.command("import")(porting.import_)
app.command()(porting.export)
app.add_typer(dead.app, name="dead")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def bench(context: typer.Context) -> None:
    """Measure the claims on this machine: a table of ratios, and bench.json."""
    try:
        # By name: an image without the folder `bench` has all the other commands.
        run_bench = importlib.import_module("bench.run").main
    except ModuleNotFoundError as error:
        raise Failed(Status.UNAVAILABLE, f"the benchmark is not installed here: {error}") from error
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command()(run_bench)
    get_command(single).main(args=context.args, prog_name="equipoise bench")


def run() -> None:
    """Run the command that the arguments name, and end the process with its status."""
    end_on_sigterm()
    try:
        get_command(app).main(prog_name="equipoise")
    except EXPECTED as error:
        status, message = told(error)
        warn(message)
        sys.exit(status)
