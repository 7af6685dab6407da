"""Kubernetes' own rules for the objects in manifests."""
