"""The commands about dead letters: `dead list` and `dead show`."""

from itertools import islice
from typing import Annotated

import typer

from models.outcomes import timestamp
from worker.cli.arguments import MAX_LIMIT, AsJson
from worker.cli.endings import Failed, Status
from worker.cli.show import console, json_lines, plain, table
from worker.reading import dead_letters
from worker.reading.reader import reader
from worker.settings import Settings, database_url

SHOWN_TO_PEOPLE = 50
"""A screen or two; programs get all unless they say otherwise."""

app = typer.Typer(help="Dead letters: what nobody could handle, kept with its reason.", no_args_is_help=True)


@app.command("list")
def list_(
    limit: Annotated[
        int | None, typer.Option(min=1, max=MAX_LIMIT, help="The newest so many; people get 50, programs all.")
    ] = None,
    json: AsJson = False,
) -> None:
    """List dead letters, newest first."""
    with reader(database_url(Settings())) as engine:
        letters = dead_letters.newest(engine)
        if json:
            json_lines(letter.as_json() for letter in islice(letters, limit))
            return
        laid = table("id", "when", "reason", "detail", "task", ids=("id",))
        for letter in islice(letters, limit or SHOWN_TO_PEOPLE):
            laid.add_row(
                letter.id, timestamp(letter.created_at)[:19], letter.reason, plain(letter.detail), plain(letter.task)
            )
        more = next(letters, None) is not None
    console().print(laid if laid.row_count else "no dead letters")
    if more:
        console().print(f"and more than these {laid.row_count}: --limit")


@app.command()
def show(
    id: Annotated[str, typer.Argument(metavar="ID", help="The dead letter's id, as `dead list` shows it.")],
    json: AsJson = False,
) -> None:
    """Show one dead letter whole."""
    with reader(database_url(Settings())) as engine:
        whole = dead_letters.find(engine, id)
    if whole is None:
        raise Failed(Status.NO, f"there is no dead letter {id[:80]!a}")
    if json:
        json_lines([whole.as_json()])
        return
    out = console()
    for name, value in (whole.letter.as_json() | {"task_id": whole.task_id}).items():
        out.print(f"[bold]{name}[/]: {plain(value)}")
    out.print(plain(whole.body.decode("utf-8", "backslashreplace")), soft_wrap=True)
