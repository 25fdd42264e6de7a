"""What `make bench` runs: us and the peers, measured against a loopback AWS in one run on one machine."""
