"""Rate, speakers and classes of a user's own recordings in tests."""

RATE = 16000
SPEAKERS = ("ann", "bea", "cid", "dan")
CLASS = {"ann": "en", "bea": "zh", "cid": "en", "dan": "zh", "eve": "en", "flo": "zh"}
