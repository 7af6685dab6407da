"""Kubernetes v1 words as typed values: decode, defaults, validate, encode, quantities."""
