"""Proposals: class-agnostic boxes that may hold an object."""
