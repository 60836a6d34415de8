"""Faces in photographs and videos: detection and cropping.

Used by the data set builders, and by commands that work on the user's own photographs and clips.
"""
