"""Many predictions in one request: as rows, as columns, as an Arrow stream."""
