"""Detection in more pictures than anybody wants to wait for twice: chunks of work, resumable, in Parquet."""
