"""The README's first example, typed as it stands: its output is what the README shows."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
EQUIPOISE = f"'{sys.executable}' -P -m worker.cli"


@pytest.fixture
def newcomer(tmp_path: Path) -> dict[str, str]:
    """The environment of somebody who has set nothing, and a home of the stack's own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("EQUIPOISE_")}
    return inherited | {"EQUIPOISE_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}


@pytest.fixture
def up(newcomer: dict[str, str]) -> Iterator[dict[str, str]]:
    """What `equipoise up` runs, from the line that says that it is ready until Ctrl-C; gives what it says to export."""
    started = subprocess.Popen(
        ["bash", "-c", f"exec {EQUIPOISE} up"], env=newcomer, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert started.stdout is not None
    told = []
    for line in started.stdout:
        told.append(line)
        if "ready" in line:
            break
    assert started.poll() is None, "".join(told)
    yield dict(re.findall(r"^export (\w+)='(.*)'$", "".join(told), re.MULTILINE))
    started.terminate()
    started.stdout.close()
    assert started.wait(30) in (0, 130, 143)


def test_the_examples_print_what_the_readme_shows(up: dict[str, str], newcomer: dict[str, str]) -> None:
    (_, example), (_, shown) = BLOCKS[1], BLOCKS[2]

    typed = subprocess.run(
        ["bash", "-euc", example.replace(".venv/bin/equipoise", EQUIPOISE)],
        env=newcomer,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (typed.stdout, typed.stderr) == (shown, "")

    (snippet,) = (code for language, code in BLOCKS if language == "python")
    sent = subprocess.run(
        [sys.executable, "-c", snippet], env=newcomer | up, capture_output=True, text=True, check=False, timeout=60
    )
    assert (sent.stdout, sent.stderr) == ("applied\n", "")


def test_money_has_moved_by_line_thirty() -> None:
    before = README.splitlines()[:30]

    assert any('"status":"applied"' in line for line in before) and any('"balance":1000' in line for line in before)
    assert sum(line.startswith("```") for line in before) >= 4
