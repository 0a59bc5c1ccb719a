"""The worker side: tasks, and the child process that runs them for a worker.

Import names from `crunch`; the modules here are private and may change.
"""
