"""PostgreSQL: connections that PgBouncer in transaction mode can carry, named queries, migrations."""

from mage_platform.database.connections import connect
from mage_platform.database.queries import Queries

__all__ = ["Queries", "connect"]
