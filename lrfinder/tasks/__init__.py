"""What is trained: tasks, their data, what is measured, and what is random.

The files here are the task as a whole: what it is, by which name it is loaded, whether it is still
the same. The rooms, each of which uses those below it and the files here:

    templates    the files that ``lrfinder init`` writes
    builtin      tasks that come with lrfinder
    adapters     tasks from the objects of Lightning, Transformers, skorch
    loops        training loops of the user's own, which are driven
    fields       the fields of a Task one by one, and what is known of it before training
    data         batches, where they come from and in which order
    state        what must not leak from run to run: random states, what objects keep, copies
"""
