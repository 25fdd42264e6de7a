"""`make bench`: this backend and its peers, measured against a loopback AWS in one run on one machine."""
