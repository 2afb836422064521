"""Is this machine ready, and does it compute what it should?"""
