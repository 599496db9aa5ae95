"""What every training shares: the loop, its settings, its state and log, and the folder it writes into."""
