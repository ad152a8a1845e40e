"""Between proto and domain: every rule of the contract is checked here, every violation named by its field."""
