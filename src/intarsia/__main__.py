"""`python -m intarsia` is the command `intarsia`."""

from .cli import main

main()
