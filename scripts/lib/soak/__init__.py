"""Hours of speech through one bridge process: is there an outcome for everything, and does memory stay flat?"""
