"""`python -m mtface` is `mtface`."""

from mtface.cli.start import main

main()
