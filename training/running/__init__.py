"""What every training shares: processes, schedules, state, logs."""
