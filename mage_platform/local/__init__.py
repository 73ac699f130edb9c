"""The local stack: every server the platform needs, started from wheels, supervised, and stopped in order."""
