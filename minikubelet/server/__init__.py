"""The Kubernetes-shaped API on the daemon's socket."""
