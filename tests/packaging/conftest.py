"""What the tests of this room share: the tree, as somebody else would have it."""

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOT_SOURCES = shutil.ignore_patterns(
    "*.so", "*.c", "build", "dist", "*.egg-info", "__pycache__", ".*", "tests", "benchmarks"
)


@pytest.fixture(scope="session")
def copy_sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources for this session, so that no build of a test touches the real ones."""
    copy = tmp_path_factory.mktemp("sources") / "tree"
    shutil.copytree(ROOT, copy, ignore=NOT_SOURCES)
    return copy


@pytest.fixture
def tree(copy_sources: Path, tmp_path: Path) -> Path:
    """A copy for one test."""
    return Path(shutil.copytree(copy_sources, tmp_path / "tree"))
