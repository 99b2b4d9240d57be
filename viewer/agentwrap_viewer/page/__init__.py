"""The page: receives what agent and explainer publish, keeps it within bounds, shows it in the browser.

``Store`` holds what was received, ``Receiver`` fills it from the sockets, ``frames`` sends it to the tabs over a binary
WebSocket, ``components`` draw it, ``server`` serves it on the loopback interface. Nothing here imports torch.
"""
