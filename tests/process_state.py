"""What belongs to the whole process, read so that two moments can be compared: no run of the product may change it."""

from __future__ import annotations

import csv
import gc
import hashlib
import locale
import logging
import os
import random
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

#: Variables that libraries set while they are imported, and test runners while they run; none of them is ours.
_NOT_OURS = ("PYTEST_CURRENT_TEST", "HYPOTHESIS_", "COV_CORE_", "TOKENIZERS_PARALLELISM", "KMP_", "LD_LIBRARY_PATH")
#: What an import may change besides: filters of warnings and hooks; rich draws random numbers when it is imported.
_BY_IMPORTS = ("filters of warnings", "hooks", "random numbers of Python")
#: Loggers that no library may change by being imported, as it may its own.
_NOBODYS_LOGGERS = ("logger root", "logger spurious_imagenet", "logger py.warnings")
_LIMITS = {name: value for name, value in vars(resource).items() if name.startswith("RLIMIT_")}
#: Loggers whose levels, handlers and propagation somebody may want to change.
_LOGGERS = (
    *("", "spurious_imagenet", "timm", "open_clip", "torch.onnx", "httpx", "datasets", "huggingface_hub"),
    *("absl", "asyncio", "uvicorn.error", "gradio", "matplotlib", "PIL", "py.warnings"),
)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(_NOT_OURS)}


def _loggers() -> dict[str, Any]:
    found = {}
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        # Pytest captures by handlers of its own, which come and go with the phase of a test.
        handlers = [id(h) for h in logger.handlers if not type(h).__module__.startswith("_pytest")]
        found[name or "root"] = (logger.level if name else "any", handlers, logger.propagate, logger.disabled)
    return found


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _signals() -> dict[str, Any]:
    return {
        number.name: signal.getsignal(number) for number in signal.valid_signals() if isinstance(number, signal.Signals)
    }


def _of_torch(torch: Any) -> dict[str, Any]:
    return {
        "threads": torch.get_num_threads(),
        "default dtype": torch.get_default_dtype(),
        "default device": str(torch.get_default_device()),
        "deterministic": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_anomaly_enabled()),
        "autocast": torch.is_autocast_enabled("cpu"),
        "matrix product": torch.get_float32_matmul_precision(),
        "cudnn": (torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "oneDNN": torch.backends.mkldnn.enabled if hasattr(torch.backends.mkldnn, "enabled") else None,
        "sharing": torch.multiprocessing.get_sharing_strategy(),
    }


def _of_pandas(pandas: Any) -> dict[str, Any]:
    wanted = ("mode.chained_assignment", "display.max_rows", "display.max_colwidth", "display.precision")
    return {name: pandas.get_option(name) for name in wanted}


#: A library → what is read of it once somebody has imported it.
_LIBRARIES: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "torch": _of_torch,
    "pandas": _of_pandas,
    # Whoever draws in a thread of a server, as gradio's pages do, chooses the backend.
    "matplotlib": lambda mpl: {
        f"setting {k}": repr(v) for k, v in mpl.rcParams.items() if k not in {"backend", "backend_fallback"}
    },
    "PIL.Image": lambda image: {"most pixels": image.MAX_IMAGE_PIXELS},
    "PIL.ImageFile": lambda file: {"truncated images": file.LOAD_TRUNCATED_IMAGES, "block": file.MAXBLOCK},
    "datasets": lambda datasets: {
        "bars hidden": datasets.are_progress_bars_disabled(),
        "caching": datasets.is_caching_enabled(),
        "verbosity": datasets.logging.get_verbosity(),
    },
    "huggingface_hub.utils": lambda hub: {"bars hidden": hub.are_progress_bars_disabled()},
    # Whoever asks for the default one makes it the chosen one.
    "multiprocessing": lambda processes: {
        "start method": processes.get_start_method(allow_none=True) or processes.get_all_start_methods()[0]
    },
    "timm.layers": lambda layers: {"scriptable": layers.is_scriptable(), "exportable": layers.is_exportable()},
}


def process_state(draws: bool = True) -> dict[str, Any]:
    """Read it; name → value.

    Args:
        draws: The states of the generators of random numbers too.
    """
    state: dict[str, Any] = {f"environment variable {k}": v for k, v in _environment().items()}
    state["modules"] = len(sys.modules)
    state |= {f"logger {name}": value for name, value in _loggers().items()}
    state |= {f"signal {name}": handler for name, handler in _signals().items()}
    state |= {f"limit {name}": resource.getrlimit(number) for name, number in _LIMITS.items()}
    state |= {
        "working directory": os.getcwd(),  # noqa: PTH109
        "umask": _umask(),
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
        "processors": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "temporary folder": tempfile.tempdir,
        "time zone": time.tzname,
        "locale": locale.setlocale(locale.LC_ALL),
        "filters of warnings": [str(f) for f in warnings.filters],
        "how warnings are shown": warnings.showwarning,
        "search path": list(sys.path),
        "hooks": (sys.excepthook, sys.displayhook, threading.excepthook, sys.unraisablehook, sys.getprofile()),
        "recursion limit": sys.getrecursionlimit(),
        "arguments": list(sys.argv),
        "output": (sys.stdout, sys.stderr),
        "garbage collector": (gc.isenabled(), gc.get_threshold()),
        "longest field of a CSV": csv.field_size_limit(),
        "timeout of sockets": socket.getdefaulttimeout(),
        "numpy's errors": np.geterr(),
        "numpy's printing": {k: v for k, v in np.get_printoptions().items() if k != "formatter"},
    }
    for name, read in _LIBRARIES.items():
        if (library := sys.modules.get(name)) is not None:
            state |= {f"{name}: {what}": value for what, value in read(library).items()}
    return state | (_draws() if draws else {})


def _draws() -> dict[str, Any]:
    of_numpy: Any = np.random.get_state()  # noqa: NPY002
    state = {
        "random numbers of Python": hash(random.getstate()),
        "random numbers of numpy": (hashlib.sha256(of_numpy[1].tobytes()).hexdigest(), *of_numpy[2:]),
    }
    if (torch := sys.modules.get("torch")) is not None:
        state["random numbers of torch"] = hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest()
    return state


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Say what differs; what a library that has been imported in between adds of itself does not count."""
    imported = {name for name in _LIBRARIES if not any(key.startswith(f"{name}: ") for key in before)}
    if "torch" in imported:
        imported.add("random numbers of torch")
    missing = object()
    found = []
    for key in sorted({*before, *after} - {"modules"}):
        if before["modules"] != after["modules"] and _changed_by_imports(key):
            continue
        old, new = before.get(key, missing), after.get(key, missing)
        if old != new and key.partition(": ")[0] not in imported:
            shown = ("nothing" if value is missing else repr(value)[:200] for value in (old, new))
            found.append("{}: from {} to {}".format(key, *shown))
    return found


def _changed_by_imports(key: str) -> bool:
    return key in _BY_IMPORTS or (key.startswith("logger ") and key not in _NOBODYS_LOGGERS)


def make_conspicuous() -> None:
    """Set what the product may touch to values that nobody would choose, so that putting the usual ones back shows."""
    csv.field_size_limit(131_077)
    sys.setrecursionlimit(1_013)
    socket.setdefaulttimeout(613.0)
    warnings.filterwarnings("ignore", message="^a warning that nobody gives$")
