"""The report of a version: its document, its page, and that both are kept."""
