"""`python -m mtface` is `mtface`."""

from mtface.cli import main

main()
