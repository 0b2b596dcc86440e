"""All runs of a population in one program, with torch.func, where a model allows it."""
