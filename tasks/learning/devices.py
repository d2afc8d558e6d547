"""What torch can train on here."""

from __future__ import annotations

import torch


def gpu_name() -> str:
    """Name of the first CUDA device; empty where torch finds none."""
    return str(torch.cuda.get_device_name(0)) if torch.cuda.is_available() else ""
