"What the tests of data share."

import subprocess
import sys

import pytest


@pytest.fixture
def run_python():
    "Runs a line in a fresh interpreter and gives what it printed."
    return lambda code: subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()
