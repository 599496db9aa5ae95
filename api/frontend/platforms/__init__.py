"""The interfaces of platforms that people run models on, each an adapter over the same service."""
