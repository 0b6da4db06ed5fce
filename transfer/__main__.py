"""`python -m transfer`."""

from transfer.cli import main

main()
