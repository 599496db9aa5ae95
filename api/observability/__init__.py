"""What is known of the service from outside: logs and metrics."""
