"""The command line: one file for each verb, a thin client of the daemon's socket."""
