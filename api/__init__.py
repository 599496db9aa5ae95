"""The service: HTTP around the library."""
