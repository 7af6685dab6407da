"""`python -m minikubelet`."""

from minikubelet.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
