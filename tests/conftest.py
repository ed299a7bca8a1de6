"""What all tests share: the data beside the project, and hypothesis without deadlines on noisy machines."""

import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("litetext", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("litetext")

# Whoever starts the tests in the background may have Ctrl-C ignored, which processes inherit; some tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """../shared/data, or a skip where it is missing."""
    if not DATA.is_dir():
        pytest.skip(f"no {DATA}: the real data is kept beside the project, not in it")
    return DATA


@pytest.fixture(scope="session")
def real_lines(data_folder: Path) -> list[str]:
    """Every line of the given prompt files, repeated ones included."""
    files = sorted((data_folder / "prompts").glob("*.txt"))
    return [line for file in files for line in file.read_text(encoding="utf-8").split("\n") if line]
