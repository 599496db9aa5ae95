"""What the front and a worker say to each other: the only code that the two processes share besides logs."""
