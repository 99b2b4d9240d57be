"""What a recording raises."""


class RecordingError(RuntimeError):
    """A file is no recording, or does not have what was asked for. The text names the file and what is wrong."""
