"""The explainer: a process that follows an agent's stream and publishes a saliency map for its newest step.

::

    agent ──SUB──► service ──► session ──► tracking (replica) ──► engine ──► service ──XPUB──► page
                      ▲ ROUTER                                      settings: method, options, budget
                      └── configure, explain, ping

``service`` has the sockets and the loop; everything else takes and returns messages and can be tested without them.
"""
