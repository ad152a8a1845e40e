"""What jobs and operators need of the record: leases, acts, experiments, what came of lists."""
