"""Tasks from the objects of training frameworks: a file of its own name for each.

Each turns the framework's object into the fields of a Task. The object is copied, never trained and
never changed: a module, a Trainer or a net stands afterwards as it stood before. None of the
frameworks is imported here; their objects say all that is needed.
"""
