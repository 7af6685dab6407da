"""State and time, one owner per piece: settings, manifest source, pod workers, status manager, events."""
