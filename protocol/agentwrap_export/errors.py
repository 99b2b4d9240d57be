"""What stands in the way of a policy as plain data; part of the tree in ``agentwrap.errors``."""


class AgentwrapError(Exception):
    """Base of everything that agentwrap raises on the agent's side."""


class PolicyTypeError(AgentwrapError, TypeError):
    """The policy, or what it returned, is of a kind that is not understood. The text names what is."""


class ExportError(AgentwrapError, RuntimeError):
    """The policy's computation cannot be written as plain data. The text names the operation that stood in the way.

    Attributes:
        operation: The operator, or the line of the policy's code, that stood in the way.
    """

    def __init__(self, operation: str, text: str) -> None:
        super().__init__(text)
        self.operation = operation
