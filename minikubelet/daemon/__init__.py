"""The daemon: its parts, wired to each other, and the process that runs them."""
