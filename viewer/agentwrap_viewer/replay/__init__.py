"""The page over a recording: the same parts, their steps read from a file wherever one looks."""
