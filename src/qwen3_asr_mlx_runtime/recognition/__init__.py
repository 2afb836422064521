"""The numeric half: utterances → transcripts, whole and while they are spoken. It never sees a message."""
