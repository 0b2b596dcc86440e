"""What is trained: tasks, their data, what is measured, and what is random."""
