"""What a benchmark ran on: the commit, the processor, the versions of libraries."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path


def ran_on(*packages: str) -> dict[str, object]:
    """Commit, processor, Python and the versions of `packages`, to be saved beside every figure."""
    return {
        "commit": commit(),
        "cpu": cpu_name(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }


def commit() -> str:
    """The commit, with `+` where the working tree differs from it."""
    here = Path(__file__).parent
    try:
        return subprocess.check_output(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+"], cwd=here, text=True
        ).strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def cpu_name() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((text.split(":")[1].strip() for text in lines if text.startswith("model name")), platform.processor())
