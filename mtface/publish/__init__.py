"""Taking trained networks elsewhere: predictions on photographs and videos, weights for other
programs.
"""
