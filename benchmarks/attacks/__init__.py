"""Attacks on a running service, each a trial with a service of its own."""
