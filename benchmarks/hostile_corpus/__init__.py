"""What the internet sends to a service that takes pictures: thousands of files and requests that are broken,
lie, or are meant to hurt. All are made here, from a seed; none comes from anywhere else."""
