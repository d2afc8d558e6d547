"""What every contestant does with one image: decode, reduce by area to 224 pixels, encode. OpenCV and NumPy alone.

``cv2`` is what the tools' own documentation does. ``fastest`` is the floor's: kornia-rs for grey PNG of 8 bits, and
grey held in equal channels becomes one, as in scanmill, which makes encoding cheaper.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import cv2
import numpy as np

cv2.setNumThreads(1)

Kernel = Literal["cv2", "fastest"]
Form = Literal["png", "jpeg", "native"]
"""What is stored; ``native`` is the published file as it is."""

SIZE = 224
SETTINGS: dict[str, list[int]] = {
    "png": [cv2.IMWRITE_PNG_COMPRESSION, 1],
    "jpeg": [cv2.IMWRITE_JPEG_QUALITY, 95],
}
_GREY_PNG = (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", bytes([8, 0, 0, 0, 0]))
"""Bytes 0–15 and 24–28 of a PNG of one channel of 8 bits, not interlaced (PNG, 3rd edition, 5.2 and 11.2.1)."""


def convert(data: bytes, form: str, kernel: str, *, to_grey: bool = False) -> bytes:
    """Published bytes to stored bytes."""
    if form == "native":
        return data
    pixels = decode(data, kernel)
    if to_grey and pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    height, width = pixels.shape[:2]
    if max(height, width) > SIZE:
        scale = SIZE / max(height, width)
        pixels = cv2.resize(pixels, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    return cv2.imencode(f".{form}", pixels, SETTINGS[form])[1].tobytes()


def decode(data: bytes, kernel: str) -> Any:
    """Pixels; a truncated image passes."""
    if kernel == "fastest" and data[:16] == _GREY_PNG[0] and data[24:29] == _GREY_PNG[1]:
        from kornia_rs.io import decode_image_png_u8

        size = (int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big"))
        return decode_image_png_u8(data, size, "mono")[..., 0]
    pixels: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError(f"OpenCV could not decode {len(data)} bytes; the benchmark's inputs have no defects")
    return one_channel(pixels) if kernel == "fastest" else pixels


def one_channel(pixels: Any) -> Any:
    """Grey that is held in equal channels, be it under an opaque alpha, as one."""
    if pixels.ndim == 2 or (pixels.shape[2] == 4 and not (pixels[..., 3] == 255).all()):
        return pixels
    first = np.ascontiguousarray(pixels[..., 0])
    is_grey = np.array_equal(first, pixels[..., 1]) and np.array_equal(first, pixels[..., 2])
    return first if is_grey else pixels[..., :3]


def pixel_digest(encoded: bytes) -> str:
    """Of what is seen, however it is encoded and in however many equal channels."""
    pixels = one_channel(cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED))
    return hashlib.sha256(f"{pixels.shape}".encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()
