"""The version of this package: here and nowhere else. Package metadata cost the daemon's start 20 ms to look it up."""

from typing import Final

VERSION: Final = "0.1.0"
