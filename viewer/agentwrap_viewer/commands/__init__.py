"""The commands on recordings, one module each: ``add_arguments(parser)`` and ``run(arguments)``.

Importing one imports nothing but the standard library; what it needs it imports when it runs.
"""
