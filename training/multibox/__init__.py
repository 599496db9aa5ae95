"""Training of MultiBox heads."""
