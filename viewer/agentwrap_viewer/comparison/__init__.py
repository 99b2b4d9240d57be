"""Two policies on the same recorded steps: what each would do, how far apart they are, what each looks at."""
