"""What two matchloop deployables must agree on, and nothing else."""
