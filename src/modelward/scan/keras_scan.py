"""Keras configurations, wherever they lie: in a .keras archive, an HDF5 file or a SavedModel."""

from typing import Any

from modelward.scan.keras_config import problems
from modelward.scan.scanner import Item, Scanner

__all__ = ["scan_config"]


def scan_config(scanner: Scanner, item: Item, config: dict[str, Any], place: str = "") -> None:
    """Report every part of a configuration that is not on the list of standard ones.

    Args:
        scanner: Takes the findings.
        item: The file that holds it.
        config: The configuration, training part included.
        place: Where in the file it was found, for the location.
    """
    for found in problems(config, training=True):
        scanner.budget.spend("nodes")
        scanner.finding(
            item, found.rule, f"{found.what}: {found.reason}", level=found.level,
            where=f"{place}{found.where}", also=found.also,
        )  # fmt: skip
