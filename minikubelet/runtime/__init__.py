"""Carries out actions and reports what is: pauses, network, volumes, images, resources, probes, hooks."""
