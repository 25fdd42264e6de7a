"""The only place that knows boto3: sessions, discovery, minting. Import it late: boto3 costs half a second."""
