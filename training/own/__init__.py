"""A detector of your own by one command: data, training, figures, report."""
