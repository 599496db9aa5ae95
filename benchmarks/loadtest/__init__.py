"""What the benchmarks of the service share: clients, servers as processes, figures."""
