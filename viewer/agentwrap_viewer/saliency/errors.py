"""What can go wrong when a map is asked for."""


class SaliencyError(ValueError):
    """No map can be computed as asked. The text names what stood in the way and what is accepted."""


class Unanswered(SaliencyError):
    """The policy is asked elsewhere and has not answered yet: what was evaluated can be evaluated again, later."""


class NotIncremental(Exception):
    """Masked images of a policy have to be evaluated in whole batches; the text says why."""
