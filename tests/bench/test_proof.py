"""The benchmark of the proof says what it measured, and of sound books alone."""

import subprocess
import sys

from worker.settings import ROOT


def test_a_tenth_and_the_whole_are_proved() -> None:
    command = [sys.executable, "-m", "bench.proof", "--transfers", "2000"]

    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout

    rows = [line for line in told.splitlines() if line.startswith("│")]
    assert [row.split()[1] for row in rows] == ["200", "2,000"]
    assert all("MiB" in row for row in rows)
