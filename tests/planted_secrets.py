"""Secrets that are planted in a run, in all the forms in which one could come out again."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, quote_plus

import psutil

SECRETS = {
    "SCANMILL_KEY_PASSPHRASE": "Zf7/passphrase+for~signing",
    "SCANMILL_PHYSIONET_PASSWORD": "Qh2 physionet&password=ü",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYMADEUPKEY",
    "AWS_SESSION_TOKEN": "FwoGZXIvYXdzEMADE//////UPTOKEN==",
    "KAGGLE_KEY": "0f1e2d3c4b5a69788796a5b4c3d2e1f0",
}
"""Environment variable to value, all made up."""


def forms(secret: str) -> dict[str, bytes]:
    """A secret as it is, quoted for URLs, escaped for JSON and Python, in hex, and in base64 at any position."""
    plain = secret.encode()
    found = {
        "plain": plain,
        "URL": quote(secret, safe="").encode(),
        "form": quote_plus(secret).encode(),
        "JSON": json.dumps(secret)[1:-1].encode(),
        "Python": ascii(secret)[1:-1].encode(),
        "hex": plain.hex().encode(),
        "reversed": plain[::-1],
    }
    for shift in range(3):
        # What lies wholly within the secret: the letters at both ends depend on what stands beside it.
        inner = base64.b64encode(bytes(shift) + plain)[4 if shift else 0 :]
        found[f"base64 at {shift}"] = inner[: (len(plain) - 3) // 3 * 4]
    return found


def leaks(folder: Path, secrets: Mapping[str, str]) -> Iterator[str]:
    """File, secret and form of each one that is found in any file below a folder, or in its name."""
    wanted = [(name, form, said) for name, secret in secrets.items() for form, said in forms(secret).items()]
    for path in folder.rglob("*"):
        content = str(path).encode() + (path.read_bytes() if path.is_file() else b"")
        yield from (f"{path.relative_to(folder)}: {name} ({form})" for name, form, said in wanted if said in content)


def sockets(pid: int) -> tuple[set[str], set[str]]:
    """Addresses that a process and its children listen on, and that they are connected with, at this moment."""
    listening: set[str] = set()
    remote: set[str] = set()
    try:
        tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return listening, remote
    for process in tree:
        try:
            connections = process.net_connections("inet")
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        listening |= {each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN}
        remote |= {each.raddr.ip for each in connections if each.raddr}
    return listening, remote


def open_to_all(folder: Path) -> list[str]:
    """Files and folders that anybody may write."""
    return [str(path) for path in folder.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o002]
