"""Runs of Mage pipelines: the guarded server, the run without a server, and following either of them."""
