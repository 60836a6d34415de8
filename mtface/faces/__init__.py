"""Faces in photographs and videos: finding them, and cutting them out.

The builders of data sets use it, and what works on photographs and clips of one's own.
"""
