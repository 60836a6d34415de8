"""One HTML file from what runs left in their workdirs: `mtface report --html`.

`gathered.py` reads a run, a module a topic makes parts of a section of it, `write.py` puts them
together.
"""
