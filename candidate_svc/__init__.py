"""candidate_svc: finds what could be recommended; holds nothing that cannot be rebuilt."""
