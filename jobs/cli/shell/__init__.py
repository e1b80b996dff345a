"""Where the commands run: the shell that completes them, the window of its terminal, the browser beside it."""
