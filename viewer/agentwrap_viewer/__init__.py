"""The viewer: explains what an agent streams, and shows it in the browser."""
