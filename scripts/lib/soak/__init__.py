"""Hours of audio through one bridge process: every utterance must get an outcome, and memory must stay flat."""
