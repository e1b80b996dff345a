"""`python -m worker doctor`: is everything fit for a night's work?"""
