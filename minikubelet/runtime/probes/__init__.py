"""One module for each way to ask a program whether it is well: HTTP, TCP, gRPC."""
