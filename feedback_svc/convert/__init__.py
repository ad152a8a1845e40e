"""Between proto and domain: every rule of the contract is checked here, violations named by field."""
