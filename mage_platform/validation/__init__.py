"""Validation of source rows by great-expectations, and the quarantine of what it refuses."""

from mage_platform.validation.quarantine import quarantined_rows, record
from mage_platform.validation.rows import ValidatedRows, validate

__all__ = ["ValidatedRows", "quarantined_rows", "record", "validate"]
