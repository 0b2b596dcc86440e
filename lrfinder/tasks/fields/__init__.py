"""The fields of a Task one by one: what each must be, and what is known of it before training."""
