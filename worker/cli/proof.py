"""The commands that prove the books: `verify`, and `checkpoint`, which gives what to hold them against later."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType

from worker.cli.arguments import AsJson
from worker.cli.endings import Failed, Status
from worker.cli.show import console, json_lines, plain, progress
from worker.proving import checkpoints, keys
from worker.proving.checkpoints import Past
from worker.proving.verdicts import Verdict
from worker.proving.verify import verify as verify_books
from worker.reading.reader import reader
from worker.settings import Settings, database_url


def verify(
    file: Annotated[
        Path | None, typer.Option("--checkpoints", metavar="FILE", help="Hold the books against these checkpoints.")
    ] = None,
    public_key: Annotated[
        Path | None, typer.Option("--public-key", metavar="FILE", help="The key that they were signed for.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Prove the books: every balance from its entries, every ledger zero, nothing changed or missing."""
    settings = Settings()
    url = database_url(settings)
    # Before the books: what they are then is later than what any of these has seen.
    past = _past(settings, file, public_key)
    with progress() as bar:
        task = bar.add_task("transfers", total=None)
        verdict = verify_books(
            url, lambda what, proved, total: bar.update(task, description=what, completed=proved, total=total), past
        )
    if json:
        json_lines([verdict.as_json()])
    else:
        console().print(verdict_as_text(verdict))
    if not verdict.sound:
        raise Failed(Status.NO, f"the books are not sound: {len(verdict.faults)} kind(s) of fault")


def checkpoint(
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="The private key; made if it is not there.")
    ] = None,
) -> None:
    """Print a signed checkpoint of the books, to be kept where nobody who may write the books can change it."""
    settings = Settings()
    path = key or settings.checkpoint_key_file or (settings.checkpoints and settings.checkpoints.key_file)
    if path is None:
        raise Failed(
            Status.CONFIGURATION,
            "no key to sign with: set EQUIPOISE_CHECKPOINT_KEY_FILE, or give --key FILE; it is made if it is not there",
        )
    try:
        signing = keys.signing_key(path)
    except keys.KeyUnusable as error:
        raise Failed(Status.CONFIGURATION, str(error)) from error
    except OSError as error:
        raise Failed(Status.NO_INPUT, f"the key cannot be read or made: {error}") from error
    with reader(database_url(settings)) as engine:
        line = checkpoints.take(engine, signing)
    typer.echo(line)


def verdict_as_text(verdict: Verdict) -> RenderableType:
    """Say in a line that the books are sound, or what is wrong with them."""
    against = f", {verdict.checkpoints:,} checkpoints" if verdict.checkpoints else ""
    size = (
        f"{verdict.transfers:,} transfers, {verdict.accounts:,} accounts, {verdict.ledgers:,} ledgers,"
        f" {verdict.commands:,} commands{against}, in {verdict.seconds:.1f} s"
    )
    if verdict.sound:
        return f"[bold green]sound[/]: {size}"
    return Group(f"[bold red]NOT SOUND[/]: {size}", *(f"  {plain(fault)}" for fault in verdict.faults))


def _past(settings: Settings, file: Path | None, public_key: Path | None) -> Past | None:
    """Read the checkpoints that were named, else those that the settings name, if there are any yet."""
    kept = settings.checkpoints
    if file is None:
        if public_key is not None and kept is None:
            raise Failed(Status.USAGE, "a public key, and no checkpoints to check by it: give --checkpoints FILE")
        if kept is None or not kept.file.exists():
            return None
        file = kept.file
    private_key = settings.checkpoint_key_file if kept is None else kept.key_file
    if public_key is None:
        if private_key is None:
            raise Failed(Status.USAGE, "who has signed them? give --public-key FILE")
        public_key = keys.public_path(private_key)
    try:
        return checkpoints.read_file(file, public_key)
    except keys.KeyUnusable as error:
        raise Failed(Status.DATA, str(error)) from error
    except OSError as error:
        raise Failed(Status.NO_INPUT, f"the checkpoints, or their key, cannot be read: {error}") from error
