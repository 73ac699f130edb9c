"""The migrations of schema `platform`, applied in the order of their numbers."""

from mage_platform.database.migrations.runner import apply, pending

__all__ = ["apply", "pending"]
