"""The feature store: vectors and labels in PostgreSQL, written by ingest, read by training and by the sidecar."""
