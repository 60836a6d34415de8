"""`python -m mtface` is `mtface`."""

from mtface.cli.entry import main

main()
