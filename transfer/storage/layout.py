"""Names in a store that a command must find before it imports the store."""

ANSWERS = ".answers"  # outputs of commands that had nothing to do
HISTORY = ".history"  # a line for each run
