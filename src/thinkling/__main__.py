"""`python -m thinkling`."""

from thinkling.cli import main

main()
