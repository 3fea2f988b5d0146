"""What `onereward doctor` looks at: versions, devices, disk, memory and the weights that ship."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import as_file, files
from pathlib import Path

SHIPPED_MODELS = ("toy-editor", "toy-judge", "toy-clip")

_LIBRARIES = ("torch", "transformers", "diffusers", "peft", "safetensors", "pyarrow", "sqlalchemy")
_DEMO_DISK_GB = 1.0
_DEMO_MEMORY_GB = 2.0


class Status(StrEnum):
    """How a check came out; only `broken` makes the doctor fail."""

    OK = "ok"
    NOTE = "note"
    BROKEN = "broken"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the doctor's table; `advice` is empty when there is nothing to do."""

    name: str
    value: str
    status: Status = Status.OK
    advice: str = ""


def examine() -> list[Check]:
    """Every check of this machine, in the order they are shown; never raises for a broken installation."""
    return [
        Check(name="python", value=platform.python_version()),
        Check(name="onereward", value=importlib.metadata.version("onereward")),
        *(check_library(name) for name in _LIBRARIES),
        check_pillow(importlib.metadata.version("pillow")),
        check_torchvision(),
        check_processors(),
        *check_accelerators(),
        check_disk("disk", Path.cwd()),
        check_memory(),
        *(check_weights(name) for name in SHIPPED_MODELS),
    ]


def check_library(name: str) -> Check:
    """The installed version of a library that onereward depends on."""
    try:
        return Check(name=name, value=importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Check(name=name, value="missing", status=Status.BROKEN, advice="run `make install`")


def check_pillow(version: str) -> Check:
    """Pillow must be 12: the judge's differentiable resize reproduces that version's order of passes."""
    if version.split(".")[0] == "12":
        return Check(name="pillow", value=version)
    return Check(name="pillow", value=version, status=Status.BROKEN, advice="pip install 'pillow>=12,<13'")


def check_torchvision() -> Check:
    """onereward does not need torchvision, but one that does not match torch breaks the imports of transformers."""
    if importlib.util.find_spec("torchvision") is None:
        return Check(name="torchvision", value="absent, as it should be")
    attempt = subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True, check=False)
    if attempt.returncode == 0:
        return Check(name="torchvision", value="imports", status=Status.NOTE, advice="not needed")
    return Check(
        name="torchvision",
        value="installed, but its import fails",
        status=Status.BROKEN,
        advice="it breaks transformers: pip uninstall torchvision",
    )


def check_processors() -> Check:
    """How many processors this process may use."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = os.environ.get("OMP_NUM_THREADS")
    return Check(name="processors", value=f"{count} usable" + (f", OMP_NUM_THREADS={threads}" if threads else ""))


def check_accelerators() -> list[Check]:
    """CUDA devices and Apple's MPS, if torch can be imported at all."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return [Check(name="torch import", value=str(error), status=Status.BROKEN, advice="run `make install` again")]
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return [
        Check(name="cuda", value=", ".join(names) or "none"),
        Check(name="mps", value="yes" if torch.backends.mps.is_available() else "none"),
    ]


def check_disk(name: str, folder: Path) -> Check:
    """Free space, in GB of 1e9 bytes, on the disk of a folder that need not exist yet."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free_gb = shutil.disk_usage(existing).free / 1e9
    value = f"{free_gb:.1f} GB free at {folder}"
    if free_gb < _DEMO_DISK_GB:
        return Check(name=name, value=value, status=Status.BROKEN, advice=f"free {_DEMO_DISK_GB:.0f} GB")
    return Check(name=name, value=value)


def check_memory() -> Check:
    """Memory that a new process can have, in GB of 1e9 bytes."""
    import psutil

    memory = psutil.virtual_memory()
    value = f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free"
    if memory.available < _DEMO_MEMORY_GB * 1e9:
        return Check(name="memory", value=value, status=Status.NOTE, advice=f"the demo wants {_DEMO_MEMORY_GB:.0f} GB")
    return Check(name="memory", value=value)


def check_weights(name: str) -> Check:
    """Whether a shipped model is there and the header of each of its safetensors files can be read."""
    label = f"weights {name}"
    with as_file(files("onereward") / "weights" / name) as folder:
        paths = sorted(folder.rglob("*.safetensors"))
        if not paths:
            return Check(name=label, value="missing", status=Status.BROKEN, advice="install onereward again")
        unreadable = [path.name for path in paths if not _header_reads(path)]
        size_mb = sum(path.stat().st_size for path in paths) / 1e6
    if unreadable:
        return Check(
            name=label,
            value=f"unreadable: {', '.join(unreadable)}",
            status=Status.BROKEN,
            advice="install onereward again",
        )
    return Check(name=label, value=f"{len(paths)} files, {size_mb:.1f} MB")


def _header_reads(path: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as tensors:
            return len(tensors.keys()) > 0
    except (SafetensorError, OSError):
        return False
