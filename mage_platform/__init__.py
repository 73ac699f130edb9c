"""The platform package: everything the Mage blocks, the command line and the sidecar are thin adapters of."""

__version__ = "0.1.0"
