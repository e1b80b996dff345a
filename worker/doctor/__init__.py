"""The checks of `python -m worker doctor`: is everything ready for an overnight run?"""
