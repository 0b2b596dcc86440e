"""What a population is to do and what it did: plans and Histories, as arrays or plain values."""
