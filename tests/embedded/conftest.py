"""What the tests of this room share."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """An empty folder that the servers' account can enter, as it cannot enter `tmp_path`."""
    folder = Path(tempfile.mkdtemp(prefix="pgweir-test-", dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)
