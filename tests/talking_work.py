"""Work that logs, for the test of workers' logs; a module of its own, so that workers import little."""

from __future__ import annotations

import logging

logger = logging.getLogger("scanmill.convert")


def work(item: str) -> None:
    """Warn of the item."""
    logger.warning("%s looks odd", item)
