"""What trains: the contract, the trainer of any model, that of loops, and what trainers share."""
