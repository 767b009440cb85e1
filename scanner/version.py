"""The name and version of this program; the package's metadata has the same."""

PROGRAM = "overactivation"
VERSION = "0.1.0"
