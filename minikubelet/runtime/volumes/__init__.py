"""Volumes of a pod: made before its first container, kept over restarts, removed with it."""
