"""Training a population of runs, each under its own learning-rate curve.

`fit` is the one function of the room; it shares what runs have in common (`prefix_tree`) and knows
of trainers by their contract alone.

    executors    where plans are trained: here, in other processes, on a cluster
    batched      the trainer of all runs in one program
    records      what a population is to do and what it did: plans and Histories
    trainers     the contract, the trainer of any model, that of loops, and what trainers share
"""
