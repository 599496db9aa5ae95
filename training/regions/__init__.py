"""Fine-tuning of region networks: from records and a checkpoint to a detector."""
