"""The hot paths take no more instructions than they did: see `tests.instructions`."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(600)
def test_no_hot_path_takes_more_instructions_than_it_did() -> None:
    counted = subprocess.run(
        [sys.executable, "-m", "tests.instructions"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=590,
        check=False,
    )
    assert counted.returncode == 0, counted.stdout
