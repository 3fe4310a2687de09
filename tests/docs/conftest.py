import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The site's extensions are imported as Sphinx imports them.
sys.path.append(str(ROOT / "docs/_ext"))


@pytest.fixture(scope="session")
def root():
    return ROOT
