"""`python -m mtface` is `mtface`."""

from mtface.cli.main import main

main()
