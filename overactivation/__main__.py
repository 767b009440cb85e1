"""The command `scan`, started as a module."""

from scanner.__main__ import main

if __name__ == "__main__":
    main()
