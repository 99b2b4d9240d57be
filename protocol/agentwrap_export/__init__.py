"""A policy that runs in this process as plain data: its computation as the protocol's graph, and its weights.

Shared by the agent's side, which sends both, and by saliency, which runs a module's graph in its place. ``export`` and
what it uses need torch; naming what a call takes and gives (``inputs``, ``results``) imports it only when asked.
"""
