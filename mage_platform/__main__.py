"""`python -m mage_platform` is `mage-platform`."""

from mage_platform.command_line import main

if __name__ == "__main__":
    main()
