"""The sidecar's only Java: a batch scorer of a few lines, in source and compiled."""
